"""The demo's records: the same for the same seed, and each what it says it is."""

from __future__ import annotations

import json
import time

import pytest

from logflume.demo import records
from logflume.demo.records import BAD, HOUR_MS, HOURS, IN_TIME, LATE, LATENESS_MS, PARTITIONS, Sent

FIRST = 1_795_352_400_000
END = FIRST + HOURS * HOUR_MS


@pytest.fixture(scope="module")
def sent() -> list[Sent]:
    return records.make(FIRST, seed=1)


def of(sent: list[Sent], *fates: str) -> list[Sent]:
    return [record for record in sent if record.fate in fates]


def test_a_seed_says_which_records_are_made(sent: list[Sent]) -> None:
    few = records.make(FIRST, seed=1, count=500)
    assert few == records.make(FIRST, seed=1, count=500)
    assert few != records.make(FIRST, seed=2, count=500)
    assert len(sent) > 40_000


def test_nothing_is_in_the_future_whatever_the_time_of_day() -> None:
    now = time.time_ns() // 1_000_000
    for minute in range(0, 24 * 60, 7):
        at = now + minute * records.MINUTE_MS
        first = records.first_hour(at, 4000)
        assert first % HOUR_MS == 0
        # the clock may close the last hour, and has not long been able to
        assert LATENESS_MS + 4000 <= at - (first + HOURS * HOUR_MS) < LATENESS_MS + 4000 + HOUR_MS


def test_times_lie_in_the_three_hours_and_each_hour_has_its_share(sent: list[Sent]) -> None:
    times = [record.time_ms for record in of(sent, IN_TIME, LATE) if record.time_ms is not None]
    assert len(times) == len(of(sent, IN_TIME, LATE))
    assert min(times) >= FIRST
    assert max(times) < END
    for hour in range(FIRST, END, HOUR_MS):
        assert sum(hour <= time < hour + HOUR_MS for time in times) > 8000


def test_hours_overlap_in_the_log_and_what_is_in_time_never_waits_for_the_lateness(sent: list[Sent]) -> None:
    assert [record.arrived_ms for record in sent] == sorted(record.arrived_ms for record in sent)
    delays = [record.arrived_ms - (record.time_ms or 0) for record in of(sent, IN_TIME)]
    assert min(delays) >= 0
    assert LATENESS_MS - 2 * records.MINUTE_MS < max(delays) < LATENESS_MS
    for end in (FIRST + HOUR_MS, FIRST + 2 * HOUR_MS):
        over = [record for record in of(sent, IN_TIME) if (record.time_ms or 0) < end <= record.arrived_ms]
        assert len(over) > 20


def test_late_ones_arrive_when_their_partition_has_long_seen_later_times(sent: list[Sent]) -> None:
    newest = [0] * PARTITIONS
    late = 0
    for record in of(sent, IN_TIME, LATE):
        assert record.time_ms is not None
        closes = record.time_ms - record.time_ms % HOUR_MS + HOUR_MS + LATENESS_MS
        assert (newest[record.partition] >= closes) == (record.fate == LATE)
        newest[record.partition] = max(newest[record.partition], record.time_ms)
        late += record.fate == LATE
    assert late > 100


def test_the_last_partition_is_silent_for_the_last_hour(sent: list[Sent]) -> None:
    silent = [record for record in sent if record.partition == PARTITIONS - 1]
    assert len(silent) > 5000
    assert max(record.arrived_ms for record in silent) < END - HOUR_MS
    assert {record.partition for record in sent if record.arrived_ms > END - HOUR_MS} == set(range(PARTITIONS - 1))


def test_every_sort_of_bad_record_is_there(sent: list[Sent]) -> None:
    for reason in BAD:
        assert 2 <= len(of(sent, reason)) <= 7
    assert all(record.value is None for record in of(sent, "tombstone"))
    assert all(len(record.value or b"") > records.LARGEST_BYTES for record in of(sent, "too_large"))
    assert all(json.loads(record.value or b"")["ts"] > record.arrived_ms + HOUR_MS for record in of(sent, "future"))
    assert {record.fate for record in sent} == {IN_TIME, LATE, *BAD}
    assert len([record for record in of(sent, IN_TIME) if b"\n" in (record.value or b"")]) == 8


def test_more_than_the_embedded_broker_keeps_is_refused() -> None:
    with pytest.raises(ValueError, match="make fewer"):
        records.make(FIRST, seed=1, count=80_000)
