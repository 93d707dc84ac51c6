"""How long the steps of one piece of work took: for a debug line, and so for who looks where an hour's time goes."""

from __future__ import annotations

import time


class Steps:
    """Call it after each step with the step's name; ``seconds`` has them in order, those of one name added up."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.monotonic()

    def __call__(self, name: str) -> None:
        now = time.monotonic()
        self.seconds[name] = round(self.seconds.get(name, 0.0) + now - self._last, 4)
        self._last = now
