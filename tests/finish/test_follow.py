"""Following the ledgers of a topic: the same hours are due, whatever of it was read and whatever was known."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from logflume.errors import Stopped, Unreachable
from logflume.finish.follow import TopicFollower
from logflume.model import HOUR_MS
from logflume.reconcile.look import Counted
from logflume.store.base import FileStatus
from tests.reconcile.tree import FIRST_HOUR, TOPIC, TOPIC_ID, Tree


@pytest.mark.parametrize("known", [(), (0,), (0, 1)], ids=["none", "one", "all"])
def test_chains_whose_newest_entry_is_known_are_not_looked_for(tmp_path: Path, known: tuple[int, ...]) -> None:
    tree = Tree(tmp_path).fill(3, finish=False)
    store = Counted(tree.store)
    with ThreadPoolExecutor(2) as pool:
        read = TopicFollower(tree.store, TOPIC, TOPIC_ID, tree.topic, pool)
        read.refresh()
        follower = TopicFollower(store, TOPIC, TOPIC_ID, tree.topic, pool)
        follower.feed(tree.ingests[number].head for number in known)
        follower.refresh()
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
        follower = TopicFollower(tree.store, TOPIC, TOPIC_ID, tree.topic, pool)
        follower.feed([early])
        follower.refresh()
        assert follower.heads()[0] == early
        follower.refresh()
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
        follower = TopicFollower(tree.store, TOPIC, TOPIC_ID, tree.topic, pool)
        follower.refresh()
        for ingest in tree.ingests:
            ingest.feed([ingest.now + 1])
            ingest.decide(everything=True)
        follower._store = Troubled(tree.store)
        while not hung.is_set():
            with pytest.raises(Unreachable, match="reset"):
                follower.refresh()
        follower.refresh()
        go.set()
        assert ended.wait(30)
    again = TopicFollower(tree.store, TOPIC, TOPIC_ID, tree.topic, pool := ThreadPoolExecutor(2))
    with pool:
        again.refresh()
    assert follower._chains == again._chains


def test_a_chain_of_another_window_is_never_planned_with(tmp_path: Path) -> None:
    """C2"""
    tree = Tree(tmp_path).fill(1, finish=False)
    other = tree.topic.model_copy(update={"window_ms": HOUR_MS // 4})
    with ThreadPoolExecutor(2) as pool, pytest.raises(Stopped, match="window is 900000 ms"):
        TopicFollower(tree.store, TOPIC, TOPIC_ID, other, pool).refresh()


def test_each_entry_that_is_read_is_told(tmp_path: Path) -> None:
    """A refresh that reads a weekend's entries was killed as if it hung."""
    tree = Tree(tmp_path).fill(3, finish=False)
    told: list[None] = []
    with ThreadPoolExecutor(2) as pool:
        TopicFollower(tree.store, TOPIC, TOPIC_ID, tree.topic, pool).refresh(lambda: told.append(None))
    first = min(min(one.head.entry.state.unfinished.values()) for one in tree.ingests)
    assert len(told) == sum(one.head.entry.seq - first for one in tree.ingests) > 8


def test_thousands_of_empty_hours_are_not_looked_through_for_a_few(tmp_path: Path) -> None:
    """The first record was of the year 2000: each look took its time for 227,000 hours of each partition."""
    tree = Tree(tmp_path)
    hours = 227_000
    first = FIRST_HOUR - hours * HOUR_MS
    for ingest in tree.ingests:
        ingest.feed([first, FIRST_HOUR, FIRST_HOUR + 2 * HOUR_MS])
        ingest.decide(everything=True)
    with ThreadPoolExecutor(2) as pool:
        follower = TopicFollower(tree.store, TOPIC, TOPIC_ID, tree.topic, pool)
        follower.refresh()
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
        follower = TopicFollower(tree.store, TOPIC, TOPIC_ID, tree.topic, pool)
        for n in range(5):
            for ingest in tree.ingests:
                ingest.idle(FIRST_HOUR + (n + 1) * HOUR_MS)
                ingest.decide()
            follower.refresh()
            assert follower.due(10) == []
            for ingest in tree.ingests:
                ingest.router.know_finished(follower.finished_until)
        assert all(len(one.head.state.unfinished) <= 2 for one in tree.ingests)
        # and its first record is waited for as in any other topic
        tree.ingests[0].feed([FIRST_HOUR + 5 * HOUR_MS, FIRST_HOUR + 6 * HOUR_MS + 120_000])
        tree.ingests[0].decide()
        tree.ingests[1].idle(FIRST_HOUR + 7 * HOUR_MS)
        tree.ingests[1].decide()
        follower.refresh()
        assert [plan.hour for plan in follower.due(10)] == [FIRST_HOUR + 5 * HOUR_MS]
