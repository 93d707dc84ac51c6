"""``python -m logflume.demo.tied PARENT PROGRAM ARGUMENT…``: become PROGRAM, and end when PARENT ends.

The demo's daemon may not outlive it, not even when the demo is killed. Only a process itself can ask the
kernel for that, and the request outlives the exec.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(parent: str, *command: str) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(parent):
        raise SystemExit("the parent ended before it was asked for")
    os.execv(command[0], command)  # noqa: S606  # the command is the caller's own


if __name__ == "__main__":
    main(*sys.argv[1:])
