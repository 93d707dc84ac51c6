"""``python -m tests.real.dying CONFIG NUMBER HOW LIST``: the daemon, whose first worker kills itself at an effect.

The real ``logflume run`` but for one thing: the worker's store counts its calls that change something on HDFS, and
SIGKILL comes before, during or after the one with this number. LIST is a file that gets a line for each effect;
once it ends with ``died``, workers live.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from logflume import config as configuration
from logflume import log
from logflume.config import Config
from logflume.daemon.supervisor import Supervisor
from tests.sim.gates import Effect, GatedStore

HOWS = ("before", "during", "after")
DIED = "died"
#: "during": most effects take 1 to 20 ms, an upload half a second
SOON_S = (0.0, 0.02)


@dataclass(frozen=True)
class Dying:
    """The target of a supervisor: the real worker over a counting store. ``number`` -1 never dies."""

    number: int
    how: str
    effects: Path

    def __call__(self, config: Config, index: int, spool_dir: str, conn: Connection) -> None:
        from logflume.daemon import worker  # noqa: PLC0415  # the parent must load no client

        if not (self.effects.exists() and self.effects.read_text().endswith(f"{DIED}\n")):
            open_store = worker.open_store  # type: ignore[attr-defined]  # imported there, and looked up there
            gate = _Gate(self)
            worker.open_store = lambda *args, **kwargs: GatedStore(open_store(*args, **kwargs), gate)  # type: ignore[attr-defined]
        worker.main(config, index, spool_dir, conn)


class _Gate:
    def __init__(self, dying: Dying) -> None:
        self._dying = dying
        self._lock = threading.Lock()
        self._next = 0
        self._list = dying.effects.open("a")

    def __call__(self, effect: Effect, do: Callable[[], Any]) -> Any:
        if not effect.changes:
            return do()
        with self._lock:
            number, self._next = self._next, self._next + 1
            self._note(effect.call)
        if number != self._dying.number:
            return do()
        if self._dying.how == "during":
            threading.Thread(target=self._soon, daemon=True).start()
        if self._dying.how != "before":
            do()
        if self._dying.how != "during":
            self._die()
        time.sleep(1.0)  # it was quicker than the kill, which comes now
        return None

    def _soon(self) -> None:
        time.sleep(random.uniform(*SOON_S))
        self._die()

    def _die(self) -> None:
        with self._lock:
            self._note(DIED)
            os.kill(os.getpid(), signal.SIGKILL)

    def _note(self, line: str) -> None:
        self._list.write(f"{line}\n")
        self._list.flush()


def main() -> int:
    path, number, how, effects = sys.argv[1:]
    settings = configuration.load(Path(path))
    log.configure(settings.daemon.log_level, settings.daemon.log_format)
    return Supervisor(settings, target=Dying(int(number), how, Path(effects))).run()


if __name__ == "__main__":
    sys.exit(main())
