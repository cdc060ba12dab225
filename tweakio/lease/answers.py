"""What a Redis means that does not do what it was asked for: it says no, or nothing."""

from __future__ import annotations

from typing import Final

from tweakio.errors import LeaseError

__all__ = ["explain"]

# By what it says, which is never shown itself: it may have the password or the address in it.
_NO: Final = (
    (
        ("WRONGPASS", "NOAUTH", "invalid password", "invalid username", "Authentication required",
         "AUTH <password> called without"),
        "Redis refuses the password",
        (
            "put the address with the right user and password (redis://USER:PASSWORD@HOST/0) into"
            " an environment variable, and give env:NAME to 'tweakio repo lease use'"
        ),
    ),
    (
        ("NOPERM", "no permissions"),
        "Redis does not let this user do what leases need",
        (
            "who keeps it has to permit: ACL SETUSER NAME ~tweakio:* +@read +@write +@scripting"
            " +@connection +time"
        ),
    ),
    (
        ("DB index", "invalid DB"),
        "Redis has no database of this number",
        "give one from 0 to 15, or what 'databases' says in its configuration: redis://HOST/0",
    ),
    (
        ("READONLY", "read only replica", "read-only"),
        "this Redis is a replica, which takes no leases",
        "give the address of the primary: 'redis-cli INFO replication' names it",
    ),
    (
        ("LOADING", "BUSY ", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN"),
        "Redis is not ready yet",
        "run the command again in a while",
    ),
    (
        ("MOVED ", "ASK ", "cluster mode"),
        "this Redis is a node of a cluster, which has other keys elsewhere",
        "leases need one Redis; give the address of one that is not in a cluster",
    ),
    (
        ("OOM ", "MISCONF", "NOREPLICAS", "maxmemory"),
        "Redis takes no changes now: its memory or its disk is full, or replicas are missing",
        "who keeps it finds the reason in its log; leases go on when it takes changes",
    ),
    (
        ("max number of clients",),
        "Redis has as many clients as it takes",
        "who keeps it can raise 'maxclients'; else close programs that use it",
    ),
    (
        ("protected mode", "DENIED"),
        "Redis lets nobody in from another machine (its protected mode)",
        "give it a password, or let it listen to this machine; see 'protected-mode' in redis.conf",
    ),
    (
        ("certificate has expired", "certificate is not yet valid"),
        "the certificate of Redis has expired, or is not valid yet",
        "check this machine's clock; if that is right, it has to be renewed there",
    ),
    (
        ("ostname mismatch", "IP address mismatch", "is not valid for"),
        "the certificate of Redis is of another host",
        "give the host by the name that its certificate has",
    ),
    (
        ("CERTIFICATE_VERIFY_FAILED", "certificate verify failed"),
        "the certificate of Redis is by nobody who is known here",
        (
            "put rediss://HOST:PORT/0?ssl_ca_certs=FILE into an environment variable, with the"
            " authority's certificate, and give env:NAME to 'tweakio repo lease use'"
        ),
    ),
    (
        ("No such file or directory", "NO_CERTIFICATE_OR_CRL", "PEM lib", "cafile"),
        "a file of certificates that the address of Redis names cannot be used",
        "check ssl_ca_certs, ssl_certfile and ssl_keyfile in the address",
    ),
    (
        ("certificate required", "CERTIFICATE_REQUIRED", "alert bad certificate"),
        "Redis wants a certificate of this machine",
        "add ssl_certfile=FILE&ssl_keyfile=FILE to the options of the address",
    ),
    (
        ("WRONG_VERSION_NUMBER", "wrong version number", "record layer failure"),
        "there is no TLS at this port of Redis",
        "give redis:// instead of rediss://, or its port for TLS",
    ),
    (
        ("unknown command", "Unknown Redis command"),
        "this Redis is too old, or its commands have other names",
        "leases need Redis 5 or newer, with EVAL, HSET, PEXPIRE and TIME",
    ),
    (
        ("Connection closed by server", "Connection reset", "closed the connection"),
        "the lease backend does not answer: Redis ended the connection",
        "if its port is for TLS, give rediss://; else its log says why",
    ),
    (
        ("Name or service not known", "name resolution", "nodename nor servname", "getaddrinfo"),
        "the lease backend does not answer: the host of Redis is not known",
        "check the name of the host, and the network: tweakio repo lease status",
    ),
    (
        ("refused",),
        "the lease backend does not answer: nothing listens at the port of Redis",
        "see that Redis runs there, and takes connections from here: tweakio repo lease status",
    ),
)  # fmt: skip


def explain(error: BaseException, seconds: float, *, tls: bool = False) -> LeaseError:
    """The error for a Redis that says no, or nothing.

    Args:
        error: what the library raised.
        seconds: for how long an answer was waited for.
        tls: whether it was asked by TLS.
    """
    said: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(said) < 5:
        said.append(f"{type(cause).__name__} {cause}"[:1000])
        cause = cause.__cause__ or cause.__context__
    text = "\n".join(said)
    for signs, message, hint in _NO:
        if any(sign in text for sign in signs):
            return LeaseError(message, hint=hint)
    if "Timeout" in text or "timed out" in text:
        no_tls = " If its port has no TLS, give redis:// instead of rediss://." if tls else ""
        return LeaseError(
            f"the lease backend does not answer: waited {seconds:.1f} s for Redis",
            hint="see that it can be reached: tweakio repo lease status; with a longer --ttl in"
            f" 'tweakio repo lease use' an answer may take longer.{no_tls}",
        )
    return LeaseError(
        f"the lease backend does not answer ({type(error).__name__})",
        hint="see that Redis runs and can be reached: tweakio repo lease status",
    )
