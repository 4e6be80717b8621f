"""Says hello from inside the sandbox, if even this script could not make a process or open a socket."""

import os
import socket


def main() -> None:
    for act in (os.fork, socket.socket):
        try:
            act()
        except PermissionError:
            continue
        os._exit(1)  # the filter is not in force: whoever made a process here ends it, and says nothing
    os.write(1, b"hello\n")


if __name__ == "__main__":
    main()
