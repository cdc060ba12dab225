"""A stand-in to try a login with, by hand: ``python -m tests.standin whatsapp``.

It prints its address. Each line that it reads is something that the person or the service does:
``scan`` (the QR code that is shown), ``code`` (the pairing code that is shown), ``confirm``,
``log_out_remotely``, ``set_password WORD``, ``go_offline``, ... It ends with the input.
"""

from __future__ import annotations

import argparse
import sys

from . import Service


def do(service: Service, line: str) -> None:
    """Do what one line says."""
    name, *words = line.split()
    if name == "scan":
        service.scan(service.qr_codes()[0], *words)
    elif name == "code":
        service.enter_code(service.codes()[0], *words)
    else:
        getattr(service, name)(*words)


def main() -> None:
    """Serve until there is no more input."""
    kinds = {kind.name: kind for kind in Service.__subclasses__()}
    parser = argparse.ArgumentParser(prog="python -m tests.standin")
    parser.add_argument("platform", choices=sorted(kinds))
    with kinds[parser.parse_args().platform](
        rotate_every=20.0, rotations=6, sync_seconds=3.0
    ) as service:
        print(service.url, flush=True)
        for line in sys.stdin:
            try:
                if line.strip():
                    do(service, line)
            except Exception as error:
                print(f"{type(error).__name__}: {error}", flush=True)
            print("logged in:", *service.logged_in(), flush=True)


main()
