"""What a record's fate has to be, by the checker's own reading of the promises.

Nothing of logflume is imported here, or anywhere else in the checker (tests/e2e/test_checker.py).
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field

HOUR_MS = 3_600_000
YEAR_2000_MS = 946_684_800_000
YEAR_9999_MS = 253_370_764_800_000

#: partition and offset
Key = tuple[int, int]


@dataclass(frozen=True)
class Rules:
    """The part of a topic's configuration that a reader of its output has to know; times in ms."""

    field: str | None = "ts"  # None: the Kafka time
    text: bool = False
    lateness_ms: int = 600_000
    window_ms: int = HOUR_MS
    max_future_ms: int = 600_000
    min_time_ms: int = YEAR_2000_MS
    max_record_bytes: int = 10 << 20
    late: str = "side"
    reveal: str = "complete"


@dataclass(frozen=True)
class Record:
    """One record as the checker's own consumer got it."""

    partition: int
    offset: int
    value: bytes | None
    key: bytes | None
    kafka_ms: int

    @property
    def id(self) -> Key:
        return self.partition, self.offset


@dataclass(frozen=True)
class Verdict:
    """Either the event time and the line that has to be in a file, or the reason for the quarantine."""

    time: int | None
    line: bytes
    reason: str | None = None


def judge(record: Record, rules: Rules) -> Verdict:
    """By the record alone; lateness needs the log, see ``Boundaries``."""
    value = record.value
    if value is None:
        return Verdict(None, b"", "tombstone")
    if len(value) > rules.max_record_bytes:
        return Verdict(None, value, "too_large")
    if rules.text:
        body: object = None
        if b"\n" in value:
            return Verdict(None, value, "newline")
    else:
        try:
            body = json.loads(value.decode("utf-8"))
        except UnicodeDecodeError:
            return Verdict(None, value, "not_utf8")
        except (ValueError, RecursionError):
            return Verdict(None, value, "bad_json")
        if not isinstance(body, dict):
            return Verdict(None, value, "not_object")
    time = record.kafka_ms if rules.field is None else _time(body, rules.field)
    line = one_line(value)
    if isinstance(time, str):
        return Verdict(None, line, time)
    if time < rules.min_time_ms:
        return Verdict(None, line, "ancient")
    if (rules.field is not None and time > record.kafka_ms + rules.max_future_ms) or time >= YEAR_9999_MS:
        return Verdict(None, line, "future")
    return Verdict(time, line)


def _time(body: object, path: str) -> int | str:
    for name in path.split("."):
        if not isinstance(body, dict) or body.get(name) is None:
            return "no_time"
        body = body[name]
    if isinstance(body, bool) or not isinstance(body, int | float) or not math.isfinite(body):
        return "bad_time"
    return int(body)


def one_line(value: bytes) -> bytes:
    """White space for raw line ends, as a value that has any is written."""
    return value.replace(b"\n", b" ").replace(b"\r", b" ") if b"\n" in value else value


@dataclass
class Boundaries:
    """One partition's time-boundary offsets as the log alone gives them, fed in order of offsets."""

    rules: Rules
    watermark: int = -1
    steps: list[tuple[int, int]] = field(default_factory=list)  # (watermark, offset), both rising

    def feed(self, time: int, offset: int) -> None:
        if time > self.watermark:
            self.watermark = time
            self.steps.append((time, offset))

    def of(self, hour: int) -> int | None:
        """The offset at which the hour closed; None while it is open."""
        need = hour + self.rules.window_ms + self.rules.lateness_ms
        low, high = 0, len(self.steps)
        while low < high:
            middle = (low + high) // 2
            if self.steps[middle][0] >= need:
                high = middle
            else:
                low = middle + 1
        return self.steps[low][1] if low < len(self.steps) else None


def hour_of(time: int, rules: Rules) -> int:
    return time - time % rules.window_ms
