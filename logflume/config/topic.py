"""``[[topic]]`` and ``[topic_defaults]``: what is done with the records of a topic."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ValidationInfo, field_validator, model_serializer, model_validator

from logflume import units
from logflume.config.keys import Table, Text, duration, key, matching, refuse, size, unknown
from logflume.model import DAY_MS, HOUR_MS, MINUTE_MS


class TimestampConfig(Table):
    """Where a record's event time is: in a field with a unit, or Kafka's create or append time."""

    source: Literal["field", "create", "append"]
    field: str | None = None
    unit: Literal["s", "ms", "us", "ns", "iso"] | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_toml(cls, value: Any) -> Any:
        if value in ("create", "append"):
            return {"source": value}
        if not isinstance(value, dict):
            raise ValueError('must be { field = "ts", unit = "ms" }, "create" or "append"')
        keys = ("field", "unit")
        refuse(
            [((name,), unknown(name, keys)) for name in value if name not in keys]
            + [((name,), "must be given") for name in keys if name not in value]
        )
        return {"source": "field", **value}

    @field_validator("field")
    @classmethod
    def _is_path(cls, field: str) -> str:
        if not all(field.split(".")):
            raise ValueError('must be the name of a field, dots between levels: "a.b"')
        return field

    @model_serializer
    def _as_toml(self) -> Any:
        return {"field": self.field, "unit": self.unit} if self.source == "field" else self.source


def _not_parquet(value: object) -> object:
    if value == "parquet":
        raise ValueError('parquet is not built yet; use "json" or "text"')
    return value


_INSTANT = Text("date or time", units.parse_instant, units.show_instant, accepts=(str, dt.date))


class _TopicKeys(Table):
    """The keys of a topic that have a default."""

    window_ms: Annotated[int, duration("5m", "1d")] = key(
        "1h", "length of an hour: minutes that divide one (`15m`), or hours that divide a day", "window"
    )
    lateness_ms: Annotated[int, duration("0s", "7d")] = key(
        "10m", "how long after the end of an hour its records are still accepted", "lateness"
    )
    idle_grace_ms: Annotated[int, duration("0s", "1d")] = key(
        "1m", "how long a partition must be silent before the clock may close its hours", "idle_grace"
    )
    max_future_ms: Annotated[int, duration("0s", "30d")] = key(
        "10m", "a record further ahead than this is quarantined, and closes nothing", "max_future"
    )
    min_time_ms: Annotated[int, _INSTANT] = key(
        "2000-01-01", "a record from before this is quarantined: its unit is probably wrong", "min_time"
    )
    late: Literal["side", "append", "drop"] = key(
        "side", "late records go to the late tree, or into the hour's directory, or are dropped and counted"
    )
    roll_every_ms: Annotated[int, duration("100ms", "1d")] = key(
        "10m", "age at which a part is closed and uploaded", "roll_every"
    )
    roll_bytes: Annotated[int, size("1KiB", "64GiB")] = key("128MiB", "size at which a part is closed and uploaded")
    target_bytes: Annotated[int, size("1KiB", "64GiB")] = key("256MiB", "size of an hour's files after finishing")
    reveal: Literal["complete", "early"] = key(
        "complete", "show an hour when it is complete and merged, or its parts as they are decided, unmerged"
    )
    format: Annotated[Literal["json", "text"], BeforeValidator(_not_parquet)] = key(
        "json", "what a value is: a JSON object, or a line of text"
    )
    compression: Literal["gzip", "zstd", "none"] = key("gzip", "how files are compressed")
    start: Literal["earliest", "latest"] = key("earliest", "where a partition without a ledger begins")
    max_record_bytes: Annotated[int, size("1KiB", "1GiB")] = key("10MiB", "a larger value is quarantined")
    ledger_retention_ms: Annotated[int, duration("1h", "3650d")] = key(
        "30d", "for how long ledger entries are kept that no restart needs", "ledger_retention"
    )

    @field_validator("window_ms")
    @classmethod
    def _divides(cls, window_ms: int) -> int:
        step_ms, whole_ms = (MINUTE_MS, HOUR_MS) if window_ms < HOUR_MS else (HOUR_MS, DAY_MS)
        if window_ms % step_ms or whole_ms % window_ms:
            raise ValueError("must be minutes that divide an hour (5m, 10m, 15m …) or hours that divide a day")
        return window_ms


_TIMESTAMP = 'event time: `{ field = "a.b", unit = "ms" }` (s, ms, us, ns, iso), or Kafka\'s `"create"` or `"append"`'


class TopicDefaults(_TopicKeys):
    """Defaults for every ``[[topic]]``; merged into the topics before these are checked."""

    timestamp: TimestampConfig | None = key(None, _TIMESTAMP)


# Classic groups match by the C library, where \d is a d and in [ ] a backslash is itself, KIP-848 by RE2: a topic that
# only Python found was checked and never read.
_DIALECT = re.compile(r"\\[A-Za-z0-9]|\(\?|[*+?}][*+?]|\{,|\[[:.=]|\[\^?\]?[^\]\\]*\\")


def _regular_expression(text: str) -> str:
    if (odd := _DIALECT.search(text)) is not None:
        raise ValueError(
            f"a regular expression that Kafka's client reads as Python does, without {odd[0]!r}: write [0-9] for \\d, "
            "[.] for a dot in brackets, ( ) and | for choices, and no (?…), *? or +?"
        )
    try:
        re.compile(text)
    except re.error as wrong:
        raise ValueError(f"a regular expression: {wrong}") from None
    return text


class TopicConfig(_TopicKeys):
    """One topic, or all topics whose whole name matches a pattern."""

    # the last reason is ours too: <root>/_late, _quarantine and _logflume lie beside the topics
    name: (
        Annotated[
            str,
            matching(
                "text",
                r"[A-Za-z0-9-][A-Za-z0-9._-]{0,248}",
                "a topic name of Kafka, not beginning with _ or . (Hadoop's readers skip such directories)",
            ),
        ]
        | None
    ) = key(None, "the topic")
    pattern: Annotated[str, Text("regular expression", _regular_expression)] | None = key(
        None, "instead of name: all topics whose whole name matches and that no other `[[topic]]` names"
    )
    timestamp: TimestampConfig = key(..., _TIMESTAMP)

    # Checks across keys hang on the later of the two, so that they join the other problems

    @field_validator("pattern")
    @classmethod
    def _name_or_pattern(cls, pattern: str | None, info: ValidationInfo) -> str | None:
        if "name" in info.data and (info.data["name"] is None) == (pattern is None):
            raise ValueError("exactly one of name and pattern must be given")
        return pattern

    @field_validator("target_bytes")
    @classmethod
    def _holds_a_part(cls, target_bytes: int, info: ValidationInfo) -> int:
        if info.data.get("roll_bytes", 0) > target_bytes:
            raise ValueError(f"must not be below roll_bytes = {units.show_size(info.data['roll_bytes'])}")
        return target_bytes

    @field_validator("timestamp")
    @classmethod
    def _text_has_no_fields(cls, timestamp: TimestampConfig, info: ValidationInfo) -> TimestampConfig:
        if timestamp.source == "field" and info.data.get("format") == "text":
            raise ValueError('must be "create" or "append" with format = "text", which has no fields')
        return timestamp

    @property
    def hash(self) -> str:
        """16 hex digits over the settings that change what output means; a decision records them."""
        text = json.dumps(self.model_dump(include=_HASHED), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def matches(self, topic: str) -> bool:
        """Whether the pattern takes this topic; never one that begins with ``_`` or ``.`` (Kafka's own)."""
        return self.pattern is not None and topic[:1] not in "_." and bool(re.fullmatch(self.pattern, topic))


_HASHED = {
    *("window_ms", "lateness_ms", "idle_grace_ms", "max_future_ms", "min_time_ms", "timestamp", "late"),
    *("target_bytes", "reveal", "format", "compression"),
}
