"""Three hours of access logs with all that goes wrong in real ones, from a seed.

What a record is for logflume is known here because it was made so: ``fate`` is what the design gives it,
said by the producer and not by the code that routes.

- Most records arrive within seconds, some minutes later, so hours overlap in the log; all of those are in
  time (``SLOWEST_MS`` is below the lateness).
- Late ones are of an hour's last minutes and arrive when it has been closed for long.
- A few of each sort can never be placed: broken JSON, no time, a time in the future, tombstones …
- A few are spread over several lines, which JSON allows and files of lines do not.
- The last partition is silent for the whole last hour.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

HOUR_MS = 3_600_000
MINUTE_MS = 60_000
HOURS = 3
PARTITIONS = 4
RECORDS = 40_000

LATENESS_MS = 10 * MINUTE_MS
#: the longest delay of a record that shall still be in time
SLOWEST_MS = 9 * MINUTE_MS
LARGEST_BYTES = 32 << 10
#: the embedded broker keeps 5 MiB a partition, with some bytes of its own for each record
PARTITION_BYTES = 4 << 20

IN_TIME = "hour"
LATE = "late"
BAD = (
    "bad_json",
    "not_object",
    "not_utf8",
    "tombstone",
    "no_time",
    "bad_time",
    "future",
    "ancient",
    "too_large",
)

_METHODS = ["GET"] * 16 + ["POST"] * 3 + ["HEAD"]
_STATUSES = [200] * 30 + [304] * 4 + [301, 302, 404, 404, 403, 500, 503]
_PATHS = ("/", "/login", "/search", "/cart", "/api/v1/orders", "/api/v1/items", "/static/app.js", "/img/logo.svg")
_AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/138.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148",
    "curl/8.14.1",
    "Googlebot/2.1 (+http://www.google.com/bot.html)",
)
_ENCODE = json.JSONEncoder(separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class Sent:
    """A record as it was produced. ``id`` is its key, and in the value where that can be read.

    ``arrived_ms`` is its Kafka time. ``time_ms`` is its event time, None where it has none that counts.
    ``fate`` is ``hour``, ``late``, or the reason for the quarantine.
    """

    id: str
    partition: int
    arrived_ms: int
    time_ms: int | None
    fate: str
    value: bytes | None


def first_hour(now_ms: int, idle_grace_ms: int) -> int:
    """The first of the last full hours that the clock may close already: nothing is in the future."""
    passed = now_ms - LATENESS_MS - idle_grace_ms
    return passed - passed % HOUR_MS - HOURS * HOUR_MS


def make(first_hour: int, *, seed: int, count: int = RECORDS) -> list[Sent]:
    """Records in the order of their arrival; the same for the same arguments."""
    rng = random.Random(seed)
    end = first_hour + HOURS * HOUR_MS
    made = [_ordinary(rng, partition, time) for partition, time in _times(rng, first_hour, end, count)]
    for hour in range(first_hour + HOUR_MS, end, HOUR_MS):
        made += [_late(rng, hour, end) for _ in range(count // 500)]
    for reason in BAD:
        made += [_bad(rng, reason, first_hour, end) for _ in range(rng.randint(2, 7))]
    made += [_spread_out(_ordinary(rng, 0, rng.randrange(first_hour, end))) for _ in range(8)]
    made = [_not_in_silence(record, end - HOUR_MS) for record in made]
    made.sort(key=lambda record: record.arrived_ms)
    _check(made)
    return made


def _times(rng: random.Random, start: int, end: int, count: int) -> Iterator[tuple[int, int]]:
    """Partition and event time. Traffic comes in waves; the last partition is silent in the last hour."""
    silent_from, span = end - HOUR_MS, end - start
    for i in range(count):
        # the sum of two even spreads is a hill; every third record is of a plain
        time = start + int(span * (rng.random() if i % 3 else (rng.random() + rng.random()) / 2))
        yield rng.randrange(PARTITIONS if time < silent_from else PARTITIONS - 1), time


def _fields(rng: random.Random, time: int) -> dict[str, Any]:
    a, b, c, d = rng.getrandbits(32).to_bytes(4)
    return {
        "ts": time,
        "id": f"{rng.getrandbits(80):020x}",
        "ip": f"10.{a}.{b}.{c}",
        "method": _METHODS[d % len(_METHODS)],
        "path": f"{_PATHS[a % len(_PATHS)]}?n={256 * b + d}",
        "status": _STATUSES[c % len(_STATUSES)],
        "bytes": int(200 * 500 ** rng.random()),
        "ms": (a * b + c) // 97,
        "agent": _AGENTS[(a + c) % len(_AGENTS)],
    }


def _text(fields: Any) -> bytes:
    return _ENCODE(fields).encode()


def _ordinary(rng: random.Random, partition: int, time: int) -> Sent:
    kind = rng.random()
    delay = rng.uniform(5, 3000) if kind < 0.9 else rng.uniform(3000, 90_000)
    if kind > 0.98:
        delay = rng.uniform(90_000, SLOWEST_MS)
    fields = _fields(rng, time)
    return Sent(fields["id"], partition, time + round(delay), time, IN_TIME, _text(fields))


def _late(rng: random.Random, hour_end: int, end: int) -> Sent:
    """Of the last minutes before ``hour_end``, and arriving in the hour after it, when that is closed."""
    # the last partition is silent in the last hour: it cannot get late records then
    silent = hour_end == end - HOUR_MS
    time = hour_end - rng.randrange(1, 5 * MINUTE_MS)
    fields = _fields(rng, time)
    arrived = hour_end + LATENESS_MS + rng.randrange(5 * MINUTE_MS, 40 * MINUTE_MS)
    return Sent(fields["id"], rng.randrange(PARTITIONS - silent), arrived, time, LATE, _text(fields))


def _bad(rng: random.Random, reason: str, start: int, end: int) -> Sent:
    arrived = rng.randrange(start, end - HOUR_MS)
    fields = _fields(rng, arrived)
    name = fields["id"]
    value: bytes | None = _text(fields)
    match reason:
        case "bad_json":
            value = _text(fields)[: rng.randrange(20, 120)]
        case "not_object":
            value = _text([name, arrived])
        case "not_utf8":
            value = _text(fields | {"agent": "@"}).replace(b"@", "Caf\u00e9".encode("latin-1"))
        case "tombstone":
            value = None
        case "no_time":
            value = _text({key: field for key, field in fields.items() if key != "ts"})
        case "bad_time":
            value = _text(fields | {"ts": "yesterday"})
        case "future":
            value = _text(fields | {"ts": arrived + rng.randrange(1, 400) * 24 * HOUR_MS})
        case "ancient":  # seconds taken for milliseconds
            value = _text(fields | {"ts": arrived // 1000})
        case "too_large":
            value = _text(fields | {"path": "/search?q=" + "x" * LARGEST_BYTES})
    return Sent(name, rng.randrange(PARTITIONS), arrived, None, reason, value)


def _spread_out(record: Sent) -> Sent:
    fields = json.loads(record.value or b"")
    return replace(record, value=json.dumps(fields, indent=2).encode())


def _not_in_silence(record: Sent, silent_from: int) -> Sent:
    if record.partition != PARTITIONS - 1 or record.arrived_ms < silent_from:
        return record
    return replace(record, arrived_ms=silent_from - 1)


def _check(made: list[Sent]) -> None:
    """What the demo's account and the embedded broker rely on."""
    sizes = [0] * PARTITIONS
    for record in made:
        sizes[record.partition] += len(record.value or b"") + len(record.id)
    if len({record.id for record in made}) != len(made):
        raise ValueError("two records have the same id: use another seed")
    if max(sizes) > PARTITION_BYTES:
        raise ValueError(f"{max(sizes)} bytes in a partition are more than the embedded broker keeps: make fewer")
