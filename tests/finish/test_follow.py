"""Following the ledgers of a topic: the same hours are due, whatever of it was read and whatever was known."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from logflume import commit
from logflume.core import layout
from logflume.errors import Stopped, Unreachable
from logflume.finish.follow import TopicFollower
from logflume.finish.plan import Plan
from logflume.model import HOUR_MS
from logflume.reconcile.look import Counted
from logflume.store.base import FileStatus
from logflume.store.local import LocalStore
from tests.reconcile.tree import FIRST_HOUR, TOPIC, TOPIC_ID, Ingest, Tree


@pytest.mark.parametrize("known", [(), (0,), (0, 1)], ids=["none", "one", "all"])
def test_chains_whose_newest_entry_is_known_are_not_looked_for(tmp_path: Path, known: tuple[int, ...]) -> None:
    tree = Tree(tmp_path).fill(3, finish=False)
    store = Counted(tree.store)
    with ThreadPoolExecutor(2) as pool:
        read = TopicFollower(tree.store, TOPIC, TOPIC_ID, tree.topic)
        read.refresh(pool)
        follower = TopicFollower(store, TOPIC, TOPIC_ID, tree.topic)
        follower.feed(tree.ingests[number].head for number in known)
        follower.refresh(pool)
        assert follower.heads() == read.heads()
        assert follower.due(10) == read.due(10) != []
    # The topic's chains are listed twice. Of each that is not known the entries are listed, and two looks find no next.
    unknown = 2 - len(known)
    assert (store.calls["list"], store.calls["stat"]) == (2 + unknown, 2 * unknown)


def test_a_known_entry_that_is_not_the_newest_is_followed_from(tmp_path: Path) -> None:
    tree = Tree(tmp_path).fill(2, finish=False)
    early = tree.ingests[0].head
    tree.ingests[0].feed([tree.ingests[0].now + 1])
    newest = tree.ingests[0].decide(everything=True)
    with ThreadPoolExecutor(2) as pool:
        follower = TopicFollower(tree.store, TOPIC, TOPIC_ID, tree.topic)
        follower.feed([early])
        follower.refresh(pool)
        assert follower.heads()[0] == early
        follower.refresh(pool)
        assert follower.heads()[0] == newest


def test_a_look_that_outlives_a_failed_refresh_takes_nothing_twice(tmp_path: Path) -> None:
    """One chain's look failed and another's hung: when its answer came, its part was planned twice."""
    tree = Tree(tmp_path).fill(2, finish=False)
    hung, go, ended = threading.Event(), threading.Event(), threading.Event()

    class Troubled(Counted):
        def stat(self, path: str) -> FileStatus | None:
            if not go.is_set() and not hung.is_set():
                if "/p00000/" in path:
                    raise Unreachable("stat: connection reset")
                hung.set()
                assert go.wait(30)
                try:
                    return super().stat(path)
                finally:
                    ended.set()
            return super().stat(path)

    with ThreadPoolExecutor(4) as pool:
        follower = TopicFollower(tree.store, TOPIC, TOPIC_ID, tree.topic)
        follower.refresh(pool)
        for ingest in tree.ingests:
            ingest.feed([ingest.now + 1])
            ingest.decide(everything=True)
        follower._store = Troubled(tree.store)
        while not hung.is_set():
            with pytest.raises(Unreachable, match="reset"):
                follower.refresh(pool)
        follower.refresh(pool)
        go.set()
        assert ended.wait(30)
    again = TopicFollower(tree.store, TOPIC, TOPIC_ID, tree.topic)
    with ThreadPoolExecutor(2) as pool:
        again.refresh(pool)
    found, wanted = ([(one.head, one.parts, one.closings) for one in it._chains.values()] for it in (follower, again))
    assert found == wanted


def test_a_chain_of_another_window_is_never_planned_with(tmp_path: Path) -> None:
    """C2"""
    tree = Tree(tmp_path).fill(1, finish=False)
    other = tree.topic.model_copy(update={"window_ms": HOUR_MS // 4})
    with ThreadPoolExecutor(2) as pool, pytest.raises(Stopped, match="window is 900000 ms"):
        TopicFollower(tree.store, TOPIC, TOPIC_ID, other).refresh(pool)


def test_each_entry_that_is_read_is_told(tmp_path: Path) -> None:
    """A refresh that reads a weekend's entries was killed as if it hung."""
    tree = Tree(tmp_path).fill(3, finish=False)
    told: list[None] = []
    with ThreadPoolExecutor(2) as pool:
        TopicFollower(tree.store, TOPIC, TOPIC_ID, tree.topic).refresh(pool, lambda: told.append(None))
    first = min(min(one.head.entry.state.unfinished.values()) for one in tree.ingests)
    assert len(told) == sum(one.head.entry.seq - first + 1 for one in tree.ingests) > 8


def test_thousands_of_empty_hours_are_not_looked_through_for_a_few(tmp_path: Path) -> None:
    """The first record was of the year 2000: each look took its time for 227,000 hours of each partition."""
    tree = Tree(tmp_path)
    hours = 227_000
    first = FIRST_HOUR - hours * HOUR_MS
    for ingest in tree.ingests:
        ingest.feed([first, FIRST_HOUR, FIRST_HOUR + 2 * HOUR_MS])
        ingest.decide(everything=True)
    with ThreadPoolExecutor(2) as pool:
        follower = TopicFollower(tree.store, TOPIC, TOPIC_ID, tree.topic)
        follower.refresh(pool)
        begun = time.process_time()
        assert [plan.hour for plan in follower.due(4)] == [first, FIRST_HOUR, first + HOUR_MS, first + 2 * HOUR_MS]
        follower.finished(first)
        follower.finished(first + HOUR_MS)
        for _ in range(98):
            follower.due(4)
        assert [plan.hour for plan in follower.due(3)] == [FIRST_HOUR, first + 2 * HOUR_MS, first + 3 * HOUR_MS]
    # 10 s before
    assert time.process_time() - begun < 1.0


def test_a_topic_without_records_keeps_its_entries_short(tmp_path: Path) -> None:
    """Each entry named all hours that were closed before it, and none could be removed."""
    tree = Tree(tmp_path)
    with ThreadPoolExecutor(2) as pool:
        follower = TopicFollower(tree.store, TOPIC, TOPIC_ID, tree.topic)
        for n in range(5):
            for ingest in tree.ingests:
                ingest.idle(FIRST_HOUR + (n + 1) * HOUR_MS)
                ingest.decide()
            follower.refresh(pool)
            assert follower.due(10) == []
            for ingest in tree.ingests:
                ingest.router.know_finished(follower.finished_until)
        assert all(chain.held == 0 for chain in follower._chains.values())
        assert all(len(one.head.state.unfinished) <= 2 for one in tree.ingests)
        # and its first record is waited for as in any other topic
        tree.ingests[0].feed([FIRST_HOUR + 5 * HOUR_MS, FIRST_HOUR + 6 * HOUR_MS + 120_000])
        tree.ingests[0].decide()
        tree.ingests[1].idle(FIRST_HOUR + 7 * HOUR_MS)
        tree.ingests[1].decide()
        follower.refresh(pool)
        assert [plan.hour for plan in follower.due(10)] == [FIRST_HOUR + 5 * HOUR_MS]


def test_a_partition_that_joins_while_it_is_looked_at_is_waited_for(tmp_path: Path) -> None:
    """Its directory was listed before its first entry was there, and the hour was marked without it."""
    tree = Tree(tmp_path, partitions=1).fill(1, late=False, bad=False)
    old = tree.ingests[0]
    old.feed([FIRST_HOUR + HOUR_MS + 5_000])
    old.decide(everything=True)
    # as the first claim leaves it when it has written its entry aside
    tree.path(f"{layout.chain_directory(tree.pid(1))}/tmp").mkdir(parents=True)
    joined: list[Ingest] = []
    done = threading.Event()

    class Slow(LocalStore):
        def list(self, path: str) -> list[FileStatus]:
            found = super().list(path)
            if path.endswith("/p00001") and not joined:
                joined.append(tree.ingest(1))
                old.feed([FIRST_HOUR + 2 * HOUR_MS + 120_000])
                old.decide()
                done.set()
            return found

        def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
            # partition 0 is read after all that, although both are looked at together
            if "/p00000/" in path:
                assert done.wait(30)
            return super().read(path, offset, length)

    with ThreadPoolExecutor(2) as pool:
        follower = TopicFollower(Slow(tree.store.root), TOPIC, TOPIC_ID, tree.topic)
        follower.refresh(pool)
        assert (joined[0].head.state.frontier, follower.heads()[0]) == (FIRST_HOUR + HOUR_MS, old.head)
        assert follower.due(10) == []
        assert follower.waits
        joined[0].feed([FIRST_HOUR + HOUR_MS + 7_000, FIRST_HOUR + 2 * HOUR_MS + 130_000])
        joined[0].decide(everything=True)
        follower.refresh(pool)
        (plan,) = follower.due(10)
        assert (plan.hour, sorted(plan.partitions)) == (FIRST_HOUR + HOUR_MS, [0, 1])


def test_while_a_partition_waits_the_others_are_not_held_without_bound(tmp_path: Path) -> None:
    tree = Tree(tmp_path, partitions=3).fill(1, finish=False)
    waits, *others = tree.ingests
    hours, most = 20, 30
    _hours(others, 1, hours)
    with ThreadPoolExecutor(2) as pool:
        follower = TopicFollower(tree.store, TOPIC, TOPIC_ID, tree.topic, most=most)
        planned: dict[int, Plan] = {}

        def look() -> int:
            follower.refresh(pool)
            due = follower.due(100)
            for plan in due:
                planned[plan.hour] = plan
                follower.finished(plan.hour)
            return len(due)

        # with entries that are known here, too: they are not kept, either
        for ingest in others:
            ingest.feed([ingest.now + 1])
            ingest.decide(everything=True)
            follower.feed([ingest.head])
        assert [look() for _ in range(5)] == [1, 0, 0, 0, 0]
        # a chain is read on until it has more than its share, and then one entry at the most
        assert all(chain.held <= most / 3 + 4 for chain in follower._chains.values())
        assert follower.heads()[1] != others[0].head
        # the one that waited goes on: an hour that all have closed is due at the next look
        for n in range(1, hours):
            _hours([waits], n, n + 1)
            assert look() >= 1
            assert all(chain.held <= most / 3 + 4 for chain in follower._chains.values())
        while look():
            pass
        assert follower.heads() == {n: one.head for n, one in enumerate(tree.ingests)}
        every = TopicFollower(tree.store, TOPIC, TOPIC_ID, tree.topic)
        every.refresh(pool)
        wanted = {plan.hour: plan for plan in every.due(100)}
    assert len(planned) == hours
    # the counts of late records so far are of what was read by then
    assert {hour: replace(plan, late=0, quarantined=0) for hour, plan in planned.items()} == {
        hour: replace(plan, late=0, quarantined=0) for hour, plan in wanted.items()
    }


def test_a_chain_that_is_not_read_to_its_end_forgets_nothing_of_what_is_finished(tmp_path: Path) -> None:
    """Its newest entry says from which entry on it is needed, and up to which hour nothing is."""
    tree = Tree(tmp_path).fill(12, finish=False)
    with ThreadPoolExecutor(2) as pool:
        follower = TopicFollower(tree.store, TOPIC, TOPIC_ID, tree.topic)
        follower.refresh(pool)
        for plan in follower.due(8):
            follower.finished(plan.hour)
        for ingest in tree.ingests:
            ingest.router.know_finished(follower.finished_until)
            ingest.feed([ingest.now + 1])
            ingest.decide(everything=True)
        again = TopicFollower(tree.store, TOPIC, TOPIC_ID, tree.topic, most=0)
        hours = []
        for _ in range(12):
            again.refresh(pool)
            for plan in again.due(100):
                hours.append(plan.hour)
                again.finished(plan.hour)
    assert hours == [FIRST_HOUR + n * HOUR_MS for n in range(8, 12)]


@pytest.mark.parametrize("known", [False, True], ids=["written later", "known at the beginning"])
def test_a_chain_of_which_retention_took_what_was_not_read_is_begun_anew(tmp_path: Path, known: bool) -> None:
    tree = Tree(tmp_path)
    waits, ahead = tree.ingests
    waits.feed([FIRST_HOUR])
    waits.decide(everything=True)
    ahead.feed([FIRST_HOUR])
    ahead.decide(everything=True)
    ahead.idle(FIRST_HOUR + HOUR_MS + 120_000)
    ahead.decide()
    follower = TopicFollower(tree.store, TOPIC, TOPIC_ID, tree.topic, most=0)
    with ThreadPoolExecutor(2) as pool:
        if not known:
            follower.refresh(pool)
        # a claim has neither part nor closing, so it is kept by what came before it only
        ahead = tree.ingest(1)
        for n in (3, 4, 5):
            ahead.idle(FIRST_HOUR + n * HOUR_MS + 120_000)
            ahead.decide()
        follower.refresh(pool)
        waits.idle(FIRST_HOUR + HOUR_MS + 120_000)
        waits.decide()
        hours = []

        def finish() -> None:
            for plan in follower.due(10):
                hours.append(plan.hour)
                follower.finished(plan.hour)

        follower.refresh(pool)
        finish()
        ahead.router.know_finished(follower.finished_until)
        ahead.idle(FIRST_HOUR + 6 * HOUR_MS + 120_000)
        ahead.decide()
        assert commit.trim(tree.store, ahead.head, 1 << 60) > 0
        waits.idle(FIRST_HOUR + 6 * HOUR_MS + 120_000)
        waits.decide()
        for _ in range(12):
            follower.refresh(pool)
            finish()
    assert hours == [FIRST_HOUR + n * HOUR_MS for n in range(6)]


def test_a_refresh_that_fails_asks_for_no_other_at_once(tmp_path: Path) -> None:
    tree = Tree(tmp_path).fill(1, finish=False)
    _hours(tree.ingests, 1, 6)

    class Away(Counted):
        def list(self, path: str) -> list[FileStatus]:
            raise Unreachable("list: connection refused")

    follower = TopicFollower(tree.store, TOPIC, TOPIC_ID, tree.topic, most=0)
    with ThreadPoolExecutor(2) as pool:
        follower.refresh(pool)
        assert follower.more
        follower._store = Away(tree.store)
        with pytest.raises(Unreachable):
            follower.refresh(pool)
    assert not follower.more


def test_what_no_partition_has_closed_is_read_however_much_it_is(tmp_path: Path) -> None:
    """With a wide lateness many hours are open at once, and the closing that they wait for comes after all of them."""
    tree = Tree(tmp_path, settings={"lateness": "10h"})
    for ingest in tree.ingests:
        ingest.feed([FIRST_HOUR + n * HOUR_MS for n in range(10)])
        ingest.decide(everything=True)
        for _ in range(5):
            ingest.feed([FIRST_HOUR + 10 * HOUR_MS])
            ingest.decide(everything=True)
        ingest.feed([FIRST_HOUR + 11 * HOUR_MS])
        ingest.decide(everything=True)
    with ThreadPoolExecutor(2) as pool:
        follower = TopicFollower(tree.store, TOPIC, TOPIC_ID, tree.topic, most=1)
        follower.refresh(pool)
        while follower.more:
            follower.refresh(pool)
        assert [plan.hour for plan in follower.due(10)] == [FIRST_HOUR]


def _hours(ingests: list[Ingest], first: int, until: int) -> None:
    """Two parts an hour of each, and the record that closes it."""
    for n in range(first, until):
        for ingest in ingests:
            ingest.feed([FIRST_HOUR + n * HOUR_MS + 130_000])
            ingest.decide(everything=True)
            ingest.feed([FIRST_HOUR + n * HOUR_MS + 140_000, FIRST_HOUR + (n + 1) * HOUR_MS + 120_000])
            ingest.decide(everything=True)
