"""Values → event times, lines, or a reason; the fast path and the slow one must agree on every record."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logflume.config import TopicConfig, parse
from logflume.model import Batch, Reason
from logflume.records import RecordReader, quarantine_line

T = 1_790_000_000_000


def topic(**keys: object) -> TopicConfig:
    table = {"name": "app", "timestamp": {"field": "ts", "unit": "ms"}, **keys}
    kafka = {"bootstrap.servers": "127.0.0.1:9092", "group.id": "g"}
    return parse({"kafka": kafka, "output": {"root": "file:///out"}, "topic": [table]}).topics[0]


def batch(values: list[bytes | None], *, stamp: int = 1, kafka_time: int = T) -> Batch:
    n = len(values)
    return Batch("app", 3, values, list(range(n)), [kafka_time] * n, n, -1, [b"k"] * n, [stamp] * n)


def read(config: TopicConfig, *values: bytes | None, stamp: int = 1, kafka_time: int = T) -> list[int | Reason]:
    rows, _ = RecordReader(config).read(batch(list(values), stamp=stamp, kafka_time=kafka_time))
    return [rows.rejects.get(i, time) for i, time in enumerate(rows.times)]


FATES: list[tuple[bytes | None, int | Reason]] = [
    (b'{"ts":1790000000000}', T),
    (b'{"a":{"ts":1},"ts":1790000000000}', T),
    (b' {"ts" : 1790000000000 } ', T),
    (b'{"ts":1,"ts":1790000000000}', T),  # D11: repeated keys pass, the last one counts as in every reader
    (b'{"ts":1790000000000,"x":NaN}', T),  # D11
    (b'{"ts":1790000000000,\n"x":1}', T),
    (b'{"ts":1790000000000,"x":"\xc3\xa9"}', T),
    (b'{"ts":1790000000000.9}', T),
    (b'{"ts":1790000000000,"x":"a\nb"}', Reason.BAD_JSON),
    (b'{"ts":1790000000000', Reason.BAD_JSON),
    (b'{"ts":1790000000000}{"ts":1790000000000}', Reason.BAD_JSON),
    (b"", Reason.BAD_JSON),
    (b"[1]", Reason.NOT_OBJECT),
    (b'"text"', Reason.NOT_OBJECT),
    (b'{"x":1}', Reason.NO_TIME),
    (b'{"ts":null}', Reason.NO_TIME),
    (b'{"ts":"1790000000000"}', Reason.BAD_TIME),
    (b'{"ts":true}', Reason.BAD_TIME),
    (b'{"ts":{}}', Reason.BAD_TIME),
    (b'{"ts":Infinity}', Reason.BAD_TIME),
    (b'{"ts":1790000000000,"x":"\xff"}', Reason.NOT_UTF8),
    (None, Reason.TOMBSTONE),
    (b'{"ts":1790000000000,"x":"' + b"a" * 2000 + b'"}', Reason.TOO_LARGE),
    (b'{"ts":1790000000000,"x":' + b"[" * 500 + b"}", Reason.BAD_JSON),
]


@pytest.mark.parametrize(("value", "fate"), FATES)
def test_each_value_has_its_fate_alone_and_among_others(value: bytes | None, fate: int | Reason) -> None:
    """D1, D2, D7, D8, D9, D10, D11: one bad record never changes the fate of its neighbours."""
    config = topic(max_record_bytes="1KiB")
    good = b'{"ts":1790000000000,"n":1}'
    assert read(config, value) == [fate]
    assert read(config, good, value, good) == [T, fate, T]


@settings(deadline=None)
@given(st.lists(st.sampled_from(FATES), min_size=1, max_size=12))
def test_a_batch_gives_each_record_what_it_would_get_alone(records: list[tuple[bytes | None, int | Reason]]) -> None:
    config = topic(max_record_bytes="1KiB")
    assert read(config, *[value for value, _ in records]) == [fate for _, fate in records]


def test_bad_records_in_a_long_batch_change_no_other_records_fate() -> None:
    config = topic(max_record_bytes="1KiB")
    records = [FATES[0]] * 300
    for i, bad in zip((0, 31, 32, 63, 100, 101, 299), FATES[8:], strict=False):
        records[i] = bad
    assert read(config, *[value for value, _ in records]) == [fate for _, fate in records]


@settings(deadline=None)
@given(st.lists(st.binary(max_size=12).map(lambda b: b'{"ts":1' + b), min_size=2, max_size=6))
def test_values_that_are_whole_only_together_are_not_taken_for_whole(values: list[bytes]) -> None:
    """Pieces that would parse when joined by newlines must be judged one by one."""
    alone = [read(topic(), value)[0] for value in values]
    assert read(topic(), *values) == alone


def test_an_object_split_over_two_records_is_two_bad_records() -> None:
    assert read(topic(), b'{"ts":1}{"ts":2}', b'{"ts":3', b"}") == [Reason.BAD_JSON] * 3
    assert read(topic(), b'{"a":{}', b'{"ts":1}}') == [Reason.BAD_JSON] * 2


@pytest.mark.parametrize(
    ("unit", "text", "time"),
    [
        ("s", b"1790000000", T),
        ("s", b"1790000000.5", T + 500),
        ("us", b"1790000000000999", T),
        ("ns", b"1790000000000999999", T),
        ("iso", b'"2026-09-21T14:13:20Z"', T),
        ("iso", b'"2026-09-21T16:13:20.25+02:00"', T + 250),
        ("iso", b'"2026-09-21T14:13:19.9999999Z"', T - 1),  # .NET's last tick of a second, and Java's nanosecond
        ("iso", b'"2026-09-21T16:13:19.999999999+02:00"', T - 1),
        ("iso", b'"2026-09-21T14:13:19.99999949Z"', T - 1),
        ("iso", b'"2026-09-21T14:13:20"', Reason.NAIVE_TIME),  # D4
        ("iso", b'"yesterday"', Reason.BAD_TIME),
        ("iso", b"1790000000000", Reason.BAD_TIME),
        # each of these two killed every worker that read it
        ("iso", b'"\\ud800"', Reason.BAD_TIME),
        ("ms", b"9" * 401, int("9" * 401)),
    ],
)
def test_units_are_what_they_say(unit: str, text: bytes, time: int | Reason) -> None:
    config = topic(timestamp={"field": "ts", "unit": unit})
    assert read(config, b'{"ts":' + text + b"}", b'{"ts":' + text + b"}") == [time, time]
    assert read(config, b'{"ts":' + text + b"}", None) == [time, Reason.TOMBSTONE]


@given(
    st.lists(
        st.one_of(st.integers(), st.floats(), st.integers().map(lambda n: n << 1200), st.text()).map(json.dumps)
        | st.sampled_from(['"\\ud800"', "1e400", "-0", '"2026-09-21T14:13:20Z\\ud800"', "1790000000000"]),
        max_size=4,
    ),
    st.sampled_from(["s", "ms", "us", "ns", "iso"]),
)
def test_no_time_that_a_record_may_hold_raises(values: list[str], unit: str) -> None:
    config = topic(timestamp={"field": "ts", "unit": unit})
    lines: list[bytes | None] = [b'{"ts":' + value.encode() + b"}" for value in values]
    alone = [read(config, line)[0] for line in lines]
    assert read(config, *lines, None) == [*alone, Reason.TOMBSTONE]


def test_a_number_of_more_digits_than_python_reads_is_no_reason_for_the_quarantine() -> None:
    digits = b"9" * 4301
    values = b'{"ts":1790000000000,"x":' + digits + b"}", b'{"ts":1790000000000,"x":-' + digits + b"}"
    assert read(topic(), *values) == [T, T]
    assert read(topic(), *values, None) == [T, T, Reason.TOMBSTONE]
    as_time = b'{"ts":' + digits + b"}"
    assert read(topic(), as_time, None) == [Reason.BAD_TIME, Reason.TOMBSTONE]


def test_a_dotted_field_is_found_and_a_missing_level_is_no_time() -> None:
    config = topic(timestamp={"field": "meta.at", "unit": "ms"})
    assert read(config, b'{"meta":{"at":1790000000000}}', b'{"meta":{"at":1790000000001}}') == [T, T + 1]
    assert read(config, b'{"meta":{"at":1790000000000}}', b'{"meta":1}', b"{}") == [T, Reason.NO_TIME, Reason.NO_TIME]


def test_kafka_times_are_taken_as_they_are() -> None:
    text = topic(format="text", timestamp="create")
    assert read(text, b"a line", b"another\xff") == [T, T]
    assert read(text, b"a line", b"two\nlines") == [T, Reason.NEWLINE]
    assert read(text, b"no time", kafka_time=-1) == [Reason.NO_TIME]
    append = topic(format="text", timestamp="append")
    assert read(append, b"a", stamp=2) == [T]
    assert read(append, b"a", stamp=1) == [Reason.NOT_APPEND_TIME]
    assert read(topic(timestamp="create"), b"{}", b"[]") == [T, Reason.NOT_OBJECT]


def test_lines_are_the_values_byte_for_byte_except_for_white_space_newlines() -> None:
    values: list[bytes | None] = [b'{"ts":1790000000000,  "x":NaN}', b'{\r\n"ts":1790000000000\n}']
    _, lines = RecordReader(topic()).read(batch(values))
    assert lines == [b'{"ts":1790000000000,  "x":NaN}', b'{  "ts":1790000000000 }']


def test_a_quarantined_record_keeps_everything() -> None:
    found = json.loads(quarantine_line(batch([b"\xff\n"]), 0, Reason.NOT_UTF8))
    assert base64.b64decode(found["value"]) == b"\xff\n"
    assert base64.b64decode(found["key"]) == b"k"
    assert (found["topic"], found["partition"], found["offset"], found["timestamp"]) == ("app", 3, 0, T)
    assert found["reason"] == "not_utf8"
    assert json.loads(quarantine_line(batch([None]), 0, Reason.TOMBSTONE))["value"] is None
