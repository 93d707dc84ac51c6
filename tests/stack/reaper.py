"""Ends what a test run leaves behind, when that run dies without a chance to do so itself.

Runs as a process of its own. Its standard input is a pipe that only the test run holds; lines on it
are `+PID`, `-PID` and `dir PATH`. End of file means that the run is gone, by SIGKILL perhaps: every
process still listed is killed, then every directory is removed.

Not PR_SET_PDEATHSIG, because that fires when the *thread* that forked ends, and servers are started
from short-lived threads. Processes are held by pidfd, so a reused pid is never signalled.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys


def main() -> int:
    """Read commands until end of file, then clean up. Exit status 0, also when nothing was left."""
    # Ctrl-C and a hang-up are for the run itself to handle; this process must outlive it.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    held: dict[int, int] = {}
    directories: list[str] = []
    for line in sys.stdin:
        command = line.rstrip("\n")
        if command.startswith("+"):
            # A process that ended before we looked has nothing left to end.
            with contextlib.suppress(ProcessLookupError):
                held[int(command[1:])] = os.pidfd_open(int(command[1:]))
        elif command.startswith("-"):
            descriptor = held.pop(int(command[1:]), None)
            if descriptor is not None:
                os.close(descriptor)
        elif command.startswith("dir "):
            directories.append(command[4:])
        else:
            raise ValueError(f"unknown command {command!r}")
    for descriptor in held.values():
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    for directory in directories:
        shutil.rmtree(directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
