"""What ledgers say about partitions and hours."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from logflume import config as configs
from logflume.config import Config, TopicConfig
from logflume.core import layout
from logflume.core.ledger import Head
from logflume.model import HOUR_MS
from logflume.status import ledger
from logflume.status.ledger import Cause, Log, PartitionStatus, Reader, TopicStatus, topic_status, waits_of
from logflume.store import Store, open_store
from tests.status import ledgers
from tests.status.ledgers import H6, H7, H8, H9, TOPIC_ID


def config(root: Path, *topics: dict[str, Any]) -> Config:
    return configs.parse(
        {
            "kafka": {"bootstrap.servers": "127.0.0.1:1", "group.id": "none"},
            "output": {"root": f"file://{root}"},
            "topic": [{"timestamp": "create", **topic} for topic in topics or ({"name": "app"},)],
        }
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    opened = open_store(f"file://{tmp_path}/out")
    ledgers.write(opened)
    return opened


def app(tmp_path: Path) -> TopicConfig:
    return config(tmp_path / "out").topics[0]


def status(store: Store, topic: TopicConfig, log: Log | None = None, hours: int = 6) -> TopicStatus:
    with ThreadPoolExecutor(4) as pool:
        return topic_status(Reader(store, pool), topic, "app", log, hours)


def test_each_partition_is_as_its_newest_entry_has_it(store: Store, tmp_path: Path) -> None:
    first, _, third, fourth = status(store, app(tmp_path)).partitions
    assert (first.committed, first.position, first.watermark) == (450, 510, H9 + 15 * 60_000)
    assert (first.closed_until, first.open_hours, first.owner) == (H9, (H9,), "host:1:ab")
    assert (third.committed, third.watermark, third.open_hours) == (10, None, ())
    assert fourth == PartitionStatus(3)


def test_the_boundary_comes_from_the_entry_that_closed_the_hour(store: Store, tmp_path: Path) -> None:
    assert status(store, app(tmp_path)).partitions[0].boundary == 400


def test_the_boundary_comes_from_the_marker_once_the_hour_is_finished(store: Store, tmp_path: Path) -> None:
    ledgers.mark(store, TOPIC_ID, H8, ())
    assert status(store, app(tmp_path)).partitions[0].boundary == 300


def test_an_hour_is_complete_incomplete_or_waits_for_partitions(store: Store, tmp_path: Path) -> None:
    six, seven, eight, nine = status(store, app(tmp_path)).hours
    assert (six.hour, six.state, six.records, six.files, six.reasons) == (H6, "complete", 100, 1, ())
    assert (seven.hour, seven.state) == (H7, "incomplete")
    assert seven.reasons == ("partition 0: the ledger starts at offset 10",)
    assert (eight.hour, eight.state) == (H8, "waiting")
    assert [(wait.partition, wait.cause) for wait in eight.waits] == [
        (1, Cause.WATERMARK),
        (2, Cause.WATERMARK),
        (3, Cause.NO_LEDGER),
    ]
    assert eight.waits[0].why == "watermark at 2026-11-22T09:05:00Z, needs 2026-11-22T09:10:00Z or silence"
    assert eight.waits[1].why == "watermark not known yet, needs 2026-11-22T09:10:00Z or silence"
    assert [wait.partition for wait in nine.waits] == [0, 1, 2, 3]


def test_an_hour_that_every_partition_closed_is_finishing(tmp_path: Path) -> None:
    partitions = [PartitionStatus(n, committed=1, closed_until=H7) for n in range(2)]
    (row,) = ledger.hours_of(app(tmp_path), partitions, {H6: None})
    assert (row.state, row.waits) == ("finishing", ())


def test_only_the_newest_hours_are_told_and_none_before_the_first_record(store: Store, tmp_path: Path) -> None:
    assert [one.hour for one in status(store, app(tmp_path), hours=2).hours] == [H8, H9]
    assert [one.hour for one in status(store, app(tmp_path), hours=100).hours] == [H6, H7, H8, H9]


def test_with_kafka_the_lag_is_known(store: Store, tmp_path: Path) -> None:
    log = Log(TOPIC_ID, dict.fromkeys(range(5), 0), dict.fromkeys(range(5), 600))
    found = status(store, app(tmp_path), log).partitions
    assert [one.lag for one in found] == [90, 90, 590, None, None]


def test_a_partition_without_a_leader_hides_only_its_own_lag(store: Store, tmp_path: Path) -> None:
    log = Log(TOPIC_ID, {0: 0, 2: 0, 3: 0}, dict.fromkeys((0, 2, 3), 600), {1: "no leader"})
    found = status(store, app(tmp_path), log)
    assert [one.lag for one in found.partitions] == [90, None, 590, None]
    assert found.notes == ("Kafka does not tell the lag of partitions 1: no leader",)


def test_a_partition_that_was_added_holds_no_hour_before_it_has_a_ledger(store: Store, tmp_path: Path) -> None:
    """K11"""
    log = Log(TOPIC_ID, dict.fromkeys(range(5), 0), dict.fromkeys(range(5), 600))
    found = status(store, app(tmp_path), log)
    assert 4 in [one.partition for one in found.partitions]
    assert all(wait.partition != 4 for hour in found.hours for wait in hour.waits)


def test_lost_offsets_are_what_an_hour_waits_for(store: Store, tmp_path: Path) -> None:
    """K8"""
    log = Log(TOPIC_ID, {0: 0, 1: 480, 2: 0, 3: 0}, dict.fromkeys(range(4), 600))
    found = status(store, app(tmp_path), log)
    assert found.partitions[1].trouble.startswith("app/1: offsets 450 to 479 are lost")
    assert "logflume reconcile --accept-gap app/1:480 " in found.partitions[1].hint
    wait = next(one for one in found.hours[2].waits if one.partition == 1)
    assert wait.cause is Cause.STOPPED


def test_a_topic_that_was_made_anew_is_noted(store: Store, tmp_path: Path) -> None:
    """K10"""
    log = Log("anotherid", {0: 0}, {0: 5})
    found = status(store, app(tmp_path), log)
    assert found.topic_id == TOPIC_ID
    assert found.partitions[0].lag is None
    assert "anotherid" in found.notes[0]


def test_of_two_topic_ids_the_one_written_last_is_told(store: Store, tmp_path: Path) -> None:
    ledgers.write(open_store(f"file://{tmp_path}/other"))
    opened = open_store(f"file://{tmp_path}/both")
    ledgers.write(opened, "older", at=H6)
    for hour in (H6, H7):
        for marker in ("_SUCCESS", "_INCOMPLETE"):
            opened.delete(f"{opened.root}/app/dt=2026-11-22/hour=0{6 + (hour - H6) // HOUR_MS}/{marker}")
    ledgers.write(opened, "newer", at=H9)
    found = status(opened, app(tmp_path))
    assert found.topic_id == "newer"
    assert found.notes == ("there are ledgers of earlier topics of this name: older",)


def test_topics_of_a_pattern_are_found_by_their_ledgers(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "CALL_S", 0.5)
    settings = config(tmp_path / "out", {"pattern": "a.*"}, {"name": "unread"})
    found = ledger.gather(settings, None, 6)
    assert "_TRANSPORT" in found.kafka_error
    assert [one.topic for one in found.topics] == ["app", "unread"]
    assert found.topics[1].notes == ("no ledger yet: nothing was read",)
    assert [one.topic for one in ledger.gather(settings, "app", 6).topics] == ["app"]


def test_a_marker_that_cannot_be_read_is_named_and_hides_nothing_else(store: Store, tmp_path: Path) -> None:
    ledgers.mark(store, TOPIC_ID, H8, ())
    path = tmp_path / "out" / layout.hour_path("app", H7, HOUR_MS) / layout.SUCCESS
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    hours = {one.hour: one for one in status(store, app(tmp_path)).hours}
    assert (hours[H8].state, hours[H7].state) == ("complete", "unreadable")
    assert f"{path.parent.name}/{layout.SUCCESS}" in hours[H7].reasons[0]


def test_ledgers_are_read_before_the_ends_of_the_logs(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon that decides in between looked as if its log were truncated."""
    asked: list[str] = []
    heads = ledger.Reader._heads

    def reading(self: Reader, topic: str, topic_id: str) -> dict[int, Head]:
        asked.append("ledger")
        return heads(self, topic, topic_id)

    def logs(*_: object) -> dict[str, Log]:
        asked.append("log")
        return {}

    monkeypatch.setattr(ledger.Reader, "_heads", reading)
    monkeypatch.setattr(ledger, "read_logs", logs)
    ledger.gather(config(tmp_path / "out"), None, 6)
    assert asked == ["ledger", "log"]


def test_an_hour_waits_until_the_end_plus_the_lateness(tmp_path: Path) -> None:
    topic = config(tmp_path, {"name": "app", "lateness": "30m"}).topics[0]
    partition = PartitionStatus(0, committed=0, watermark=H7, closed_until=H6)
    (wait,) = waits_of(H6, topic, [partition])
    assert wait.why == "watermark at 2026-11-22T07:00:00Z, needs 2026-11-22T07:30:00Z or silence"
