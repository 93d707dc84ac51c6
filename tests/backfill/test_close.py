"""The end of a replay: which hours the silence of a log may vouch for. The broker is an embedded one."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from logflume.backfill import close
from logflume.backfill.close import Hours
from logflume.backfill.model import Job, Plan, Request
from logflume.backfill.replay import open_root, run_split
from logflume.backfill.run import make_plan, put_plan
from logflume.config import parse
from logflume.daemon.slot import now_ms
from logflume.errors import Stopped
from logflume.kafka.embedded import EmbeddedBroker, Outgoing, produce
from logflume.kafka.events import TopicPart
from logflume.kafka.topics import Topics
from logflume.model import HOUR_MS
from logflume.store import Store

MINUTE_MS = 60_000
#: how far behind the producer is: two hours after an hour's end its records still come
BEHIND_MS = 130 * MINUTE_MS
GRACE_MS = 2_000


@dataclass
class Replay:
    """The replay of a topic. The records of partition 0 close one hour and leave the next, ``hour``, open."""

    bootstrap: str
    folder: Path
    hour: int
    idle_grace: str = f"{GRACE_MS}ms"

    def send(self, *minutes: int) -> None:
        sent = []
        for minute in minutes:
            at = self.hour + minute * MINUTE_MS
            sent.append(Outgoing(0, b'{"ts":%d}' % at, at + BEHIND_MS))
        produce(self.bootstrap, "app", sent)

    @property
    def job(self) -> Job:
        topic = {"name": "app", "timestamp": {"field": "ts", "unit": "ms"}, "idle_grace": self.idle_grace}
        body = {
            "kafka": {"bootstrap.servers": self.bootstrap, "assignment": "static"},
            "output": {"root": f"file://{self.folder}/live"},
            "daemon": {"spool": str(self.folder / "spool"), "http": ""},
            "topic": [topic],
        }
        return Job(parse(body), f"file://{self.folder}/replay", "app", "x", str(self.folder / "spool"))

    def read(self) -> tuple[Store, Plan]:
        job = self.job
        store = open_root(job)
        plan = put_plan(store, make_plan(job, Request("app")))
        for split in plan.splits:
            run_split(job, split, lambda _: None)
        return store, plan

    def end(self, store: Store, plan: Plan) -> Hours:
        close.close_all(store, self.job, plan)
        return close.finish_all(store, self.job, plan, lambda _: None)

    def marker(self) -> dict[str, object]:
        directory = self.folder / time.strftime("replay/app/dt=%Y-%m-%d/hour=%H", time.gmtime(self.hour / 1000))
        (path,) = [*directory.glob("_SUCCESS"), *directory.glob("_INCOMPLETE")]
        body: dict[str, object] = json.loads(path.read_bytes())
        return body


@pytest.fixture
def replay(tmp_path: Path) -> Iterator[Replay]:
    now = now_ms()
    with EmbeddedBroker() as broker:
        made = Replay(broker.bootstrap, tmp_path, now - now % HOUR_MS - 3 * HOUR_MS)
        made.send(*range(-10, 51))
        yield made


@pytest.fixture
def recent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log's newest records have Kafka times within the grace; the embedded broker has no look-up by time."""
    monkeypatch.setattr(Topics, "offsets_for_time", lambda _topics, parts, _time_ms: dict.fromkeys(parts, 0))


def test_an_hour_of_a_producer_that_is_behind_and_goes_on_is_not_complete(replay: Replay) -> None:
    store, plan = replay.read()
    replay.send(51)
    assert replay.end(store, plan) == Hours(complete=1, incomplete=1)
    assert (replay.marker()["complete"], replay.marker()["records"]) == (False, 51)
    assert "the range ends at offset 61" in json.dumps(replay.marker())


def test_an_hour_that_an_old_log_leaves_open_is_complete_at_once(replay: Replay) -> None:
    replay.idle_grace = "30m"
    store, plan = replay.read()
    assert replay.end(store, plan) == Hours(complete=2)
    assert now_ms() < plan.made_ms + 30 * MINUTE_MS


@pytest.mark.usefixtures("recent")
def test_an_hour_that_a_log_leaves_open_is_complete_once_it_was_silent_for_the_grace(replay: Replay) -> None:
    store, plan = replay.read()
    assert replay.end(store, plan) == Hours(complete=2)
    assert now_ms() >= plan.made_ms + GRACE_MS
    assert replay.marker()["records"] == 51


def test_a_record_that_comes_during_the_wait_is_seen(replay: Replay, monkeypatch: pytest.MonkeyPatch) -> None:
    minutes = iter([51])

    def recent(_topics: Topics, parts: Iterable[TopicPart], _time_ms: int) -> dict[TopicPart, int]:
        """Asked after the end was; the first time, a record comes then."""
        replay.send(*itertools.islice(minutes, 1))
        return dict.fromkeys(parts, 0)

    store, plan = replay.read()
    monkeypatch.setattr(Topics, "offsets_for_time", recent)
    assert replay.end(store, replace(plan, made_ms=now_ms())) == Hours(complete=1, incomplete=1)


@pytest.mark.usefixtures("recent")
def test_a_grace_longer_than_a_process_may_wait_ends_the_run_and_a_later_one_completes(replay: Replay) -> None:
    replay.idle_grace = "30m"
    store, plan = replay.read()
    with pytest.raises(Stopped) as stopped:
        replay.end(store, plan)
    assert "again in 1" in stopped.value.hint
    assert not list(replay.folder.rglob("_SUCCESS"))
    assert replay.end(store, replace(plan, made_ms=plan.made_ms - 30 * MINUTE_MS)) == Hours(complete=2)
