"""The finisher in a worker, over a real tree and real pool threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from logflume.core.partition import Phase
from logflume.daemon import finisher
from logflume.daemon.calls import Calls
from logflume.daemon.finisher import Finisher
from logflume.store.local import LocalStore
from tests.reconcile.tree import FIRST_HOUR, TOPIC, Tree


@pytest.fixture
def calls() -> Iterator[Calls]:
    made = Calls(2)
    yield made
    made.close()


def test_an_hour_that_cannot_be_finished_holds_no_other_back(
    tmp_path: Path, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The topic came to an end after as many hours as are finished at once: none of them was taken for finished."""
    monkeypatch.setattr(finisher, "HOURS_AT_ONCE", 2)
    monkeypatch.setattr(finisher, "RETRY_S", 0.0)
    tree = Tree(tmp_path).fill(6, finish=False)
    next(path for path in sorted(tree.path(tree.hour(0)).iterdir()) if path.name.startswith("_p")).unlink()
    it = Finisher(tree.store, calls, lambda: ThreadPoolExecutor(2))
    for ingest in tree.ingests:
        it.decided(ingest.head, tree.topic)
    owned: Any = {n: SimpleNamespace(phase=None, router=True, head=one.head) for n, one in enumerate(tree.ingests)}
    deadline = time.monotonic() + 30
    while len(it.finished) < 5 and time.monotonic() < deadline:
        it.tick({TOPIC: owned})
        calls.settle(0.1)
    assert [tree.marker(n).exists() for n in range(6)] == [False, *[True] * 5]
    assert "is not there" in it.held()[TOPIC]
    assert it.finished_until(TOPIC) == FIRST_HOUR
    # another worker has the lowest partition now, and says what it finds
    del owned[0]
    while it.held() and time.monotonic() < deadline:
        it.tick({TOPIC: owned})
        calls.settle(0.1)
    assert it.held() == {}


def test_closed_hours_are_finished_although_the_lowest_partition_is_stopped(tmp_path: Path, calls: Calls) -> None:
    """Its lost offsets wait for a person, and what it closed before them does not."""
    tree = Tree(tmp_path).fill(3, finish=False)
    stopped = SimpleNamespace(phase=Phase.STOPPED, router=None, head=None)
    reading = SimpleNamespace(phase=Phase.READING, router=True, head=tree.ingests[1].head)
    owned: Any = {TOPIC: {0: stopped, 1: reading}}
    it = Finisher(tree.store, calls, lambda: ThreadPoolExecutor(2))
    it.decided(tree.ingests[1].head, tree.topic)
    deadline = time.monotonic() + 30
    while len(it.finished) < 3 and time.monotonic() < deadline:
        it.tick(owned)
        calls.settle(0.1)
    assert [tree.marker(n).exists() for n in range(3)] == [True] * 3


def test_one_topics_backlog_makes_no_other_ones_look_a_call_that_hangs(
    tmp_path: Path, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its look waited behind 64 hours that were copied, and its worker was killed again and again."""
    tree = Tree(tmp_path / "first").fill(8, finish=False)
    monkeypatch.setattr("tests.reconcile.tree.TOPIC", "other")
    other = Tree(tmp_path / "second", url=tree.url).fill(1, finish=False)
    copying, go = threading.Event(), threading.Event()

    class Slow(LocalStore):
        def join(self, sources: Sequence[str], tmp: str, *, progress: Callable[[], None] = lambda: None) -> int:
            while "/app/" in tmp and not go.wait(0.01):
                copying.set()
                progress()
            return super().join(sources, tmp, progress=progress)

    it = Finisher(Slow(tree.store.root), calls, lambda: ThreadPoolExecutor(2))
    owned: Any = {}
    for name, one in (("app", tree), ("other", other)):
        for ingest in one.ingests:
            it.decided(ingest.head, one.topic)
        owned[name] = {n: SimpleNamespace(phase=None, router=True, head=i.head) for n, i in enumerate(one.ingests)}
        it.tick(owned)
        assert copying.wait(30)
    try:
        deadline = time.monotonic() + 30
        while not any(hour.topic == "other" for hour in it.finished) and time.monotonic() < deadline:
            calls.settle(0.1)
        assert [hour.topic for hour in it.finished] == ["other"]
        assert calls.oldest()[0] < 5.0
    finally:
        go.set()
    while it.busy and time.monotonic() < deadline:
        calls.settle(0.1)
    assert len(it.finished) == 9
