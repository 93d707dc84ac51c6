"""Values of a batch → event times and lines, or a reason for the quarantine.

The whole batch is judged by a few calls that run in C: joined once, unless the reader did so, looked through for
newlines and bad UTF-8, decoded as lines of JSON into one-field structs. A batch that fails one of these is judged
again in handfuls, and only a handful that fails is looked at record by record; so one bad record costs its batch
some time and never another record its fate.
"""

from __future__ import annotations

import base64
import json
import math
import operator
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import repeat
from typing import Annotated, Any, cast

import msgspec

from logflume.config import TopicConfig
from logflume.core.router import Keep, Rows
from logflume.model import Batch, Joined, Reason, TimeType

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_NEWLINE = 0x0A
#: records judged together in a batch with a bad one: by itself a record takes ten times as long
_HANDFUL = 32
_first, _last = operator.itemgetter(0), operator.itemgetter(-1)
#: { and }, as bytes give them
_OPENS, _CLOSES = {0x7B}, {0x7D}


def _join(values: Sequence[bytes | None]) -> Joined | None:
    """The values joined, or None where one is missing or has a newline in it."""
    if isinstance(values, Joined):
        return values
    try:
        text = b"\n".join(lines := cast(Sequence[bytes], values))
    except TypeError:  # of None, which is a tombstone
        return None
    # this takes half the time of counting the newlines of all
    if any(map(operator.contains, lines, repeat(_NEWLINE))):
        return None
    # looking at two bytes of each value takes a third of the time of counting all "}\n{"
    if lines[0][:1] == b"{" and all(lines):
        braced = set(map(_first, lines)) == _OPENS and set(map(_last, lines)) == _CLOSES
    else:
        braced = False
    return Joined(text, len(lines), max(map(len, lines)), braced)


def _from_iso(time: datetime) -> int:
    return (time - _EPOCH) // _MS


#: msgspec rounds what is behind the microseconds: the last moment of an hour in nanoseconds would be the next hour's
_NINES = b".999999"
_BEHIND_NINES = re.compile(r"(?<=\.999999)\d+")


def _iso_time(text: Any) -> int | Reason:
    if not isinstance(text, str):
        return Reason.BAD_TIME
    try:
        time = msgspec.convert(_BEHIND_NINES.sub("", text), datetime)
    except ValueError:  # msgspec's own, and UnicodeEncodeError for half of a surrogate pair
        return Reason.BAD_TIME
    return Reason.NAIVE_TIME if time.tzinfo is None else _from_iso(time)


#: unit → (type in JSON for the fast path, to ms); a fraction of a millisecond is cut off
_UNITS: dict[str, tuple[Any, Callable[[Any], int] | None]] = {
    "ms": (int, None),
    "s": (int | float, lambda time: int(time * 1000)),
    "us": (int | float, lambda time: int(time // 1000)),
    "ns": (int | float, lambda time: int(time // 1_000_000)),
    "iso": (Annotated[datetime, msgspec.Meta(tz=True)], _from_iso),
}


def _decoder(path: list[str], kind: Any) -> msgspec.json.Decoder[Any]:
    """A decoder for objects with just the field at ``path``; each level is the attribute ``v``."""
    for depth, name in reversed(list(enumerate(path))):
        # msgspec renames, since a JSON key need not be a Python name
        # gc=False halves the cost: the collector need not know of objects that hold no cycles
        kind = msgspec.defstruct(f"Level{depth}", [("v", kind)], rename={"v": name}, gc=False)
    return msgspec.json.Decoder(kind)


class RecordReader:
    """Reads batches of one topic as its configuration says; pure, usable from one thread."""

    def __init__(self, topic: TopicConfig) -> None:
        self._json = topic.format == "json"
        self._limit = topic.max_record_bytes
        self._source = topic.timestamp.source
        self._path = (topic.timestamp.field or "").split(".") if self._source == "field" else []
        self._to_ms: Callable[[Any], int] | None = None
        kind: Any = None
        if self._path:
            kind, self._to_ms = _UNITS[topic.timestamp.unit or "ms"]
            self._decoder = _decoder(self._path, kind)
        else:
            self._decoder = msgspec.json.Decoder(msgspec.defstruct("AnyObject", [], gc=False))
        self._unit = topic.timestamp.unit

    def read(self, batch: Batch) -> tuple[Rows, Sequence[bytes]]:
        """The columns for the core, and the lines for the spool without newlines: ``Joined`` when none is rejected.

        Never raises for what a record holds.
        """
        joined = _join(batch.values)
        whole = None if joined is None else self._whole(joined, batch.kafka_times, batch.time_types)
        if joined is not None and whole is not None:
            times: Sequence[int] = whole
            rejects: dict[int, Reason] = {}
            lines: Sequence[bytes] = joined
            size = len(joined.text) + 1
        else:
            times, rejects, lines = self._each(batch)
            size = sum(map(len, lines)) + len(lines)
        rows = Rows(
            offsets=batch.offsets,
            times=times,
            kafka_times=batch.kafka_times,
            rejects=rejects,
            size=size,
            next_offset=batch.next_offset,
            leader_epoch=batch.leader_epoch,
        )
        return rows, lines

    # -- all at once ------------------------------------------------------------------------------

    def _whole(self, values: Joined, kafka_times: Sequence[int], time_types: Sequence[int]) -> Sequence[int] | None:
        """The times of all, or None if one of them may have to be rejected."""
        if values.longest > self._limit:
            return None
        times = self._json_times(values, kafka_times) if self._json else kafka_times
        if times is None:
            return None
        if self._source == "append" and not set(time_types) <= {TimeType.APPEND}:
            return None
        if self._source == "create" and min(times) < 0:
            return None
        return times

    def _json_times(self, values: Joined, kafka_times: Sequence[int]) -> Sequence[int] | None:
        """Times of lines that are one JSON object each, or None if they may not be.

        ``decode_lines`` does not ask for a newline between two values. But where each line begins with
        ``{`` and ends with ``}``, no value can go over the end of a line (after a ``}`` JSON has no ``{``
        without a comma, and strings hold no raw newline), so n values from n lines are one each.
        """
        if not values.braced:
            return None
        if not values.text.isascii():
            try:
                values.text.decode()
            except UnicodeDecodeError:
                return None
        if self._unit == "iso" and _NINES in values.text:
            return None
        try:
            found = self._decoder.decode_lines(values.text)
            if len(found) != len(values):
                return None
            if not self._path:
                return kafka_times
            for _ in self._path[1:]:
                found = [item.v for item in found]
            if self._to_ms is None:
                return [item.v for item in found]
            convert = self._to_ms
            return [convert(item.v) for item in found]
        except (msgspec.DecodeError, RecursionError, OverflowError, ValueError):
            return None

    # -- one by one -------------------------------------------------------------------------------

    def _each(self, batch: Batch) -> tuple[list[int], dict[int, Reason], list[bytes]]:
        times: list[int] = []
        rejects: dict[int, Reason] = {}
        lines: list[bytes] = []
        for start in range(0, len(batch.values), _HANDFUL):
            some = slice(start, start + _HANDFUL)
            joined = _join(values := batch.values[some])
            whole = None if joined is None else self._whole(joined, batch.kafka_times[some], batch.time_types[some])
            if joined is not None and whole is not None:
                times.extend(whole)
                lines.extend(joined)
                continue
            for i, value in enumerate(values, start):
                found, line = self._one(value, batch, i)
                if isinstance(found, Reason):
                    rejects[i] = found
                    found = 0
                times.append(found)
                lines.append(line)
        return times, rejects, lines

    def _one(self, value: bytes | None, batch: Batch, i: int) -> tuple[int | Reason, bytes]:
        if value is None:
            return Reason.TOMBSTONE, b""
        if len(value) > self._limit:
            return Reason.TOO_LARGE, value
        body: Any = None
        if self._json:
            body = _json_object(value)
            if isinstance(body, Reason):
                return body, value
            # In JSON that was found valid, raw line ends are only white space between tokens.
            if b"\n" in value:
                value = value.replace(b"\n", b" ").replace(b"\r", b" ")
        elif b"\n" in value:
            return Reason.NEWLINE, value
        if self._source == "field":
            return self._field_time(body), value
        if self._source == "append" and batch.time_types[i] != TimeType.APPEND:
            return Reason.NOT_APPEND_TIME, value
        time = batch.kafka_times[i]
        return (time if time >= 0 else Reason.NO_TIME), value

    def _field_time(self, body: Any) -> int | Reason:
        for name in self._path:
            if not isinstance(body, dict) or body.get(name) is None:
                return Reason.NO_TIME
            body = body[name]
        if self._unit == "iso":
            return _iso_time(body)
        if isinstance(body, bool) or not isinstance(body, int | float):
            return Reason.BAD_TIME
        # an int may be too large for isfinite, and is the future's then
        if isinstance(body, float) and not math.isfinite(body):
            return Reason.BAD_TIME
        try:
            return int(body) if self._to_ms is None else self._to_ms(body)
        except OverflowError:
            return Reason.BAD_TIME


def _int(digits: str) -> int | float:
    """Python refuses integers of more than 4,300 digits, the fast path passes over them: so both must."""
    try:
        return int(digits)
    except ValueError:
        return math.inf


_parse = json.JSONDecoder(parse_int=_int).decode


def _json_object(value: bytes) -> dict[str, Any] | Reason:
    """The object, NaN and repeated keys included (D11: they pass unchanged), or why it is none."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return Reason.NOT_UTF8
    try:
        body = _parse(text)
    except (ValueError, RecursionError):
        return Reason.BAD_JSON
    return body if isinstance(body, dict) else Reason.NOT_OBJECT


def pieces_of(batch: Batch, lines: Sequence[bytes], keep: Keep) -> tuple[list[bytes], int, int]:
    """(pieces, records, bytes with line ends) that ``keep`` picks of a batch; a piece is a line, or all joined."""
    if isinstance(keep.rows, slice) and isinstance(lines, Joined):
        return [lines.text], len(lines), len(lines.text) + 1
    picks = range(len(lines))[keep.rows] if isinstance(keep.rows, slice) else keep.rows
    if keep.reasons is not None:
        pieces = [quarantine_line(batch, i, why) for i, why in zip(picks, keep.reasons, strict=True)]
    else:
        pieces = [lines[i] for i in picks]
    return pieces, len(pieces), sum(map(len, pieces)) + len(pieces)


def quarantine_line(batch: Batch, i: int, reason: Reason) -> bytes:
    """One JSON line that keeps everything of a record: key and value base64, null where there is none."""
    key, value = batch.keys[i], batch.values[i]
    return json.dumps(
        {
            "topic": batch.topic,
            "partition": batch.partition,
            "offset": batch.offsets[i],
            "timestamp": batch.kafka_times[i],
            "reason": reason.value,
            "key": None if key is None else base64.b64encode(key).decode(),
            "value": None if value is None else base64.b64encode(value).decode(),
        },
        separators=(",", ":"),
    ).encode()
