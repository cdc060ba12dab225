"""What git, ssh and the host say when something fails: whose fault it is, and what helps."""

from __future__ import annotations

import re

from tweakio.errors import RemoteError
from tweakio.sync.urls import shown_url

__all__ = ["RejectedError", "clean", "refused", "said_there", "unreachable"]

_TELLS = ("FATAL:", "fatal:", "error:", "ERROR", "remote:")
"""How lines begin that say why git failed, the most telling first; gitolite's are in capitals."""
_SAYS_NOTHING = (
    "fatal: Could not read from remote repository",
    "fatal: the remote end hung up",
    "Please make sure you have the correct access rights",
    "and the repository exists",
    "error: failed to push some refs",
)
_MOST_READ = 1 << 16
_LONGEST_LINE = 4000
_MOST_LINES = 12
_LONGEST_SAID = 360
_GIVEN_UP = "give the address of one that exists, and check that you may read it"
_CHANGED_KEY = ("REMOTE HOST IDENTIFICATION HAS CHANGED", "REVOKED HOST KEY DETECTED")
_OF_CHANGED_KEY = ("WARNING:", "IT IS POSSIBLE", "SHA256:", "Offending", "Host key", "REVOKED")
_CUT = (
    "early EOF", "unexpected disconnect", "hung up unexpectedly", "onnection reset",
    "Connection closed by", "kex_exchange_identification", "Broken pipe", "RPC failed",
    "mpty reply from server", "non-properly terminated", "unexpected eof", "transfer closed",
    "recv error", "Recv failure", "send failure", "Send failure", "IncompleteRead",
    "onnection aborted", "HangupException", "without response",
)  # fmt: skip
_NEXT = (
    (
        _CHANGED_KEY,
        (
            "somebody may be in between. Ask who keeps the host, by another way than this, whether"
            " its key was changed, and compare the fingerprint; until then do not connect"
        ),
    ),
    (
        ("Host key verification failed",),
        "check the host's key and take it on by connecting once by hand: ssh HOST",
    ),
    (
        ("Permission denied (",),
        "check that your key is there (ssh-add -l) and that the host knows it",
    ),
    (
        ("could not read Username", "could not read Password", "Authentication failed",
         "prompts disabled", "returned error: 401", "returned error: 403", "credentials"),
        "use ssh, or git's credential helper: https://git-scm.com/docs/gitcredentials",
    ),
    (
        ("certificate has expired", "certificate is expired", "chain uses expired",
         "not yet valid", "not yet activated"),
        (
            "check this machine's clock; if that is right, who keeps the host has to renew the"
            " certificate"
        ),
    ),
    (
        ("does not match target host", "subject name matches", "ostname mismatch",
         "is not valid for", "doesn't match"),
        (
            "the certificate is of another host: check the name in the address, and that nobody is"
            " in between"
        ),
    ),
    (
        # A git with GnuTLS says the same of both.
        ("server certificate verification failed",),
        (
            "the certificate has expired (check this machine's clock), or nobody who is known here"
            " made it: if you trust the host, tell git (http.sslCAInfo in 'git help config')"
        ),
    ),
    (
        ("certificate", "CAfile", "signer not trusted"),
        "if you trust the host, tell git its certificate: http.sslCAInfo in 'git help config'",
    ),
    (
        ("FATAL: W", "FATAL: + ", "FATAL: C "),
        "a rule of the host: your key may read there at most; ask who keeps it",
    ),
    (
        ("DENIED",),
        (
            "the host does not let your key do this, or the name of the repository is mis-spelled;"
            " ask who keeps the host"
        ),
    ),
    (
        ("does not appear to be a git repository", "does not exist", "epository not found",
         "' not found", "returned error: 404", "NotGitRepository"),
        _GIVEN_UP,
    ),
    (
        ("onnection refused", "timed out", "Timeout, server", "ould not resolve", "o route to host",
         "Failed to connect", "etwork is unreachable", "low speed", "too slow",
         "name resolution", "NameResolutionError", "not known"),
        "check the name of the host, and the network; then run the command again",
    ),
    (
        _CUT,
        (
            "the connection was cut; run the command again: what was sent is there as a whole or"
            " not at all"
        ),
    ),
)  # fmt: skip
"""What to do, by what ssh and git say; the first that fits."""
_RACE = (
    "fetch first", "non-fast-forward", "failed to lock", "cannot lock ref", "incorrect old value",
    "failed to update ref", "stale info", "reference already exists", "already exists",
    "remote ref updated since",
)  # fmt: skip
"""What is said of a push when another one came first, by the branch."""
_NEXT_THERE = (
    (
        ("No space left", "quota exceeded", "Disk full", "disk full"),
        "the disk of the host is full, not this one: make room there, or ask who keeps it",
    ),
    (
        (
            "insufficient permission",
            "ermission denied",
            "Read-only file system",
            "unable to create",
        ),
        "the host cannot write to that repository; ask who keeps it about its owner and its disk",
    ),
    (
        ("currently checked out", "denyCurrentBranch"),
        "that repository has its files checked out; push to a bare one ('git init --bare')",
    ),
    (
        ("DENIED",),
        "a rule of the host: it does not let your key write there; ask who keeps it",
    ),
    (
        ("unpacker error", "unpack", "index-pack", "n/a"),
        "the host could not store it: its disk, or its checks; ask who keeps it",
    ),
)
_CAUSE_THERE = "the host has rules of its own, and this is what it says; ask who keeps it"


class RejectedError(Exception):
    """Another push came first; the caller says what to do.

    Attributes:
        reason: what the host says.
    """

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


def _shown(text: str) -> str:
    """One printable line without what could be a secret."""
    text = re.sub(r"://[^\s'\"]+", lambda found: shown_url(f"x{found[0]}")[1:], text)
    # What moves the cursor would be half shown as it is; the whole sequence goes.
    text = re.sub(r"\x1b\[[0-9;?]{0,20}[ -/]?[@-~]", "", text)
    return "".join(c if c.isprintable() else "?" for c in text)


def _lines(text: str) -> list[str]:
    if len(text) > 2 * _MOST_READ:
        text = f"{text[:_MOST_READ]}\n{text[-_MOST_READ:]}"
    # A progress bar draws over itself by carriage returns; splitlines makes lines of them.
    lines = [line.strip()[:_LONGEST_LINE] for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith(_SAYS_NOTHING)]


def clean(text: str) -> str:
    """Why git failed, as one printable line without what could be a secret."""
    lines = _lines(text)
    if any(sign in text for sign in _CHANGED_KEY):
        # All that ssh says of it: the fingerprint is what somebody has to compare.
        told = [line.strip("@ ") for line in lines]
        told = [line for line in told if any(sign in line for sign in _OF_CHANGED_KEY)]
        return _shown(" ".join(told))[:_LONGEST_SAID]
    told = [line for kind in _TELLS for line in lines if line.startswith(kind)]
    # Of ssh's lines, which begin with anything, the last says what it came to.
    line = told[0] if told else lines[-1] if lines else ""
    if not line and (cut := next((sign for sign in _CUT if sign in text), "")):
        line = "the connection was cut" if "hung up" in cut else cut
    line = re.sub(r"^fatal: unable to access '[^']*': ", "", line)
    return _shown(line)[:200]


def said_there(text: str) -> str:
    """What the host itself says: git marks it with ``remote:``; empty if it says nothing."""
    lines = [line[len("remote:") :].strip() for line in _lines(text) if line.startswith("remote:")]
    lines = [_shown(line)[:400] for line in lines if line]
    if len(lines) > _MOST_LINES:
        lines = [*lines[: _MOST_LINES // 2], "...", *lines[-_MOST_LINES // 2 :]]
    return " / ".join(lines)[:_LONGEST_SAID]


def unreachable(text: str, url: str) -> RemoteError:
    """The error for a host that was not reached, or did not do what it was asked for."""
    why = clean(text) or "git did not say why"
    words = said_there(text)
    if words and words not in why and why.removeprefix("remote: ") not in words:
        why = f"{why}; the host says: {words}"
    hint = next((hint for signs, hint in _NEXT if any(sign in text for sign in signs)), _GIVEN_UP)
    return RemoteError(f"cannot reach {shown_url(url)}: {why}", hint=hint)


def refused(reason: str, text: str, url: str) -> RejectedError | RemoteError:
    """What to raise for a push that the host refused.

    Args:
        reason: what it says of the branch.
        text: what came beside that.
        url: of the remote.
    """
    words = said_there(text)
    both = f"{reason}\n{words}"
    hint = next((hint for signs, hint in _NEXT_THERE if any(s in both for s in signs)), None)
    races = any(sign in reason for sign in _RACE) or "cannot lock ref" in words
    left = "unable to create" in both.lower() and "File exists" in both
    if races and (hint is None or left):
        return RejectedError(_shown(words or reason)[:400])
    said = f"; it says: {words}" if words else ""
    return RemoteError(
        f"{shown_url(url)} refused the push: {_shown(reason)[:200]}{said}",
        hint=hint or _CAUSE_THERE,
    )
