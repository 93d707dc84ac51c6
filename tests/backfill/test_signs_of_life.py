"""The pool kills a process that says nothing for long: so whatever may take long says something."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from logflume.backfill import close, repair, replay
from logflume.backfill.model import Job, Manifest, Plan, Split
from logflume.backfill.repair import Finish
from logflume.errors import Fenced
from logflume.finish.follow import TopicFollower
from logflume.model import HOUR_MS
from logflume.store.local import LocalStore
from tests.reconcile.tree import FIRST_HOUR, TOPIC, TOPIC_ID, Tree


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "tree", settings={"target_bytes": "1KiB", "roll_bytes": "1KiB"}).fill(
        3, records=24, finish=False
    )


@pytest.fixture
def job(tree: Tree, tmp_path: Path) -> Job:
    return Job(tree.config, tree.url, TOPIC, "test", str(tmp_path / "spool"))


def test_a_split_that_waits_for_another_process(tree: Tree, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    done, said = Manifest(0, 0, 1 << 40, 0), list[int]()
    fenced = [Fenced("another run has the chain")]

    def run(_life: object) -> Manifest:
        if fenced:
            raise fenced.pop()
        return done

    # to be fenced in the right moment cannot be had on demand
    monkeypatch.setattr(replay._Life, "run", run)
    monkeypatch.setattr(replay, "PATIENCE_S", 0.2)
    monkeypatch.setattr(replay, "LOOK_EVERY_S", 0.02)
    assert replay.run_split(job, Split(tree.pid(0), 0, 1 << 40, 1 << 40), said.append) == done
    assert len(said) > 2
    assert sum(said) == 0


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What was told; 1 stands for a long step that was done: that of reading chains, and that of copying a file."""
    found: list[int] = []
    refresh, join = TopicFollower.refresh, LocalStore.join

    def refreshed(follower: TopicFollower, *args: Any) -> None:
        refresh(follower, *args)
        found.append(1)

    def joined(store: LocalStore, *args: Any, **named: Any) -> int:
        done = join(store, *args, **named)
        found.append(1)
        return done

    monkeypatch.setattr(TopicFollower, "refresh", refreshed)
    monkeypatch.setattr(LocalStore, "join", joined)
    return found


def test_a_replay_that_reads_long_chains(tree: Tree, job: Job, said: list[int]) -> None:
    assert close.finish_all(tree.store, job, Plan(TOPIC, TOPIC_ID, 0, ()), said.append).complete
    assert said[0] == 0


def test_a_repair_that_reads_long_chains_and_copies_large_hours(job: Job, said: list[int]) -> None:
    hours = tuple(FIRST_HOUR + number * HOUR_MS for number in range(3))
    assert repair.finish_hours(job, Finish(TOPIC, TOPIC_ID, hours, (), ()), said.append) == (3, ())
    assert said[0] == 0
    assert sum(said) > 2
    assert (1, 1) not in itertools.pairwise(said)
