"""Becomes a browser that keeps a lock.

Run as a program, by itself, with as little of Python as possible:

    python -I -S _exec.py SOCKET BROWSER ARGUMENT...

It gets the descriptor of a locked file through a Unix socket and becomes the browser. What keeps
a lock of the kind of ``flock`` is the open file, so the profile stays locked until the browser
has ended, too, whatever happens to the program that opened it. Both the standard library's and
Node's ways to start a process close descriptors on the way; so it is handed over here.
"""

# The part of the module socket that is written in C: the other one takes 9 of 24 milliseconds.
import _socket
import os
import sys


def main() -> None:
    """Get the descriptor, and become the browser."""
    address, browser, *arguments = sys.argv[1:]
    # It is closed by the exec, as all that Python opens.
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    connection.settimeout(60)
    connection.connect(address)
    # For systems that do not tell who is at the other end.
    connection.sendall(b"%d\n" % os.getpid())
    _, messages, _, _ = connection.recvmsg(16, _socket.CMSG_SPACE(4))
    descriptors = [
        int.from_bytes(data[:4], sys.byteorder)
        for level, kind, data in messages
        if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS)
    ]
    if not descriptors:
        sys.exit("the program that opens the profile has given up")
    for descriptor in descriptors:
        os.set_inheritable(descriptor, True)  # noqa: FBT003 - it takes no keywords
    try:
        os.execv(browser, [browser, *arguments])  # noqa: S606 - there is no shell
    except OSError as error:
        sys.exit(f"{browser}: {error.strerror}")


if __name__ == "__main__":
    main()
