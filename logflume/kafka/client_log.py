"""librdkafka's own log lines: served inside poll, so on the owner's thread, and thinned out."""

from __future__ import annotations

import logging
import time

# With its brokers gone a client logs, and reports to error_cb, 20 refused connections a second (measured).
REPEAT_S = 30.0


class Seldom:
    """Lets a key pass once in ``REPEAT_S``; forgets everything when there are too many."""

    LIMIT = 1000

    def __init__(self) -> None:
        self._last: dict[str, float] = {}

    def passes(self, key: str) -> bool:
        now = time.monotonic()
        if now - self._last.get(key, -REPEAT_S) < REPEAT_S:
            return False
        if len(self._last) >= self.LIMIT:
            self._last.clear()
        self._last[key] = now
        return True


class _Thinned(logging.Filter):
    """One line of a text in ``REPEAT_S``; what differs between repetitions follows "(after"."""

    def __init__(self) -> None:
        super().__init__()
        self._seldom = Seldom()

    def filter(self, record: logging.LogRecord) -> bool:
        return self._seldom.passes(record.getMessage().partition("(after")[0])


CLIENT_LOG = logging.getLogger("logflume.kafka.client")
CLIENT_LOG.addFilter(_Thinned())
