"""What the enumeration and the simulator found, each by itself: the first of its kind among the points."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from logflume import commit
from logflume.commit import LogFacts, Owner
from logflume.core import layout, ledger
from logflume.core.ledger import Head
from logflume.core.router import Router, Rules
from logflume.errors import Fenced
from logflume.model import HOUR_MS, PartitionId
from logflume.store.base import FileStatus
from logflume.store.local import LocalStore
from tests.crash.points import Point, Variant, numbered, run, settings
from tests.sim import tree
from tests.sim.game import game
from tests.sim.host import LaterCalls, played
from tests.sim.world import Clock


@pytest.fixture
def clock() -> Iterator[Clock]:
    made = Clock()
    with played(made):
        yield made


def interrupt(variant: Variant, how: str, call: str, path: str, where: Path, clock: Clock, *, wakes: int = -1) -> None:
    """Interrupt the first effect of this call whose path contains ``path``."""
    effects = numbered(variant, where / "numbered", clock)
    number = next(i for i, effect in enumerate(effects) if effect.call == call and path in effect.path)
    run(variant, Point(number, how, "new", wakes), where / "run", clock, effects[number])


@pytest.mark.parametrize("how", ["kill", "fail", "lose"])
def test_what_a_finisher_left_undone_after_its_marker_is_done_by_the_next(
    how: str, tmp_path: Path, clock: Clock
) -> None:
    """P2 N3: the marker was there, so nobody looked again: late parts stayed hidden, the plan stayed for ever."""
    interrupt(Variant("complete", "append", concat=True), how, "delete", "/plans/", tmp_path, clock)


def test_late_parts_show_although_the_finisher_died_between_marker_and_them(tmp_path: Path, clock: Clock) -> None:
    """P2: with late = "append" they were hidden for ever."""
    interrupt(Variant("complete", "append", concat=True), "kill", "publish", "/ap0", tmp_path, clock)


def test_a_publisher_that_died_between_link_and_unlink_puts_nothing_into_a_marked_hour(
    tmp_path: Path, clock: Clock
) -> None:
    """H13: the part was in tmp and published; its next owner published it again, into the finished hour."""
    variant = Variant("complete", "side", concat=False, pair=True)
    interrupt(variant, "tear", "publish", "hour=02/_p00001", tmp_path, clock)


# -- the ledger itself --------------------------------------------------------------------------------

PID = PartitionId("app", "VGhlVG9waWNJZA", 0)


def claim(store: LocalStore, name: str, facts: LogFacts | None = None) -> Head:
    owner = Owner(name, lambda: 1, "c")
    known = facts or LogFacts(0, 100, None, 1)
    return commit.claim(store, PID, owner, window_ms=HOUR_MS, ask=lambda: known, latest=False)


def forget_all_but(store: LocalStore, head: Head) -> None:
    assert commit.trim(store, head, older_than_ms=1 << 60) == head.entry.seq


def test_an_owner_that_slept_for_longer_than_the_ledger_is_kept_is_fenced(tmp_path: Path) -> None:
    """K2 Z3: its next number was taken long ago and is free again, since old entries are removed."""
    store = LocalStore(str(tmp_path))
    sleeper = claim(store, "sleeper")
    for _ in range(3):
        newest = claim(store, "other")
    forget_all_but(store, newest)
    late = ledger.claim(sleeper, owner="sleeper", at=1, config="c")
    for _ in range(2):  # also when it asks again
        with pytest.raises(Fenced, match="forgotten"):
            commit.append(store, late)
    assert claim(store, "sleeper").entry.seq == newest.entry.seq + 1


def test_two_owners_that_slept_do_not_let_each_other_in(tmp_path: Path) -> None:
    """K2 Z3: the first one's entry, fenced, stands at the number before the second one's."""
    store = LocalStore(str(tmp_path))
    first = claim(store, "first")
    second = claim(store, "second")
    for _ in range(3):
        newest = claim(store, "other")
    forget_all_but(store, newest)
    for before, name in ((first, "first"), (second, "second")):
        with pytest.raises(Fenced, match="forgotten"):
            commit.append(store, ledger.claim(before, owner=name, at=1, config="c"))


def test_an_owner_that_slept_before_its_first_entry_is_fenced_too(tmp_path: Path) -> None:
    """K2: number 0 is free again."""
    store = LocalStore(str(tmp_path))
    first = ledger.genesis(PID, window_ms=HOUR_MS, start=0, owner="sleeper", at=1, config="c")
    for _ in range(2):
        newest = claim(store, "other")
    forget_all_but(store, newest)
    with pytest.raises(Fenced, match="forgotten"):
        commit.append(store, first)


def test_the_broker_is_asked_for_the_end_after_the_chain_was_read(tmp_path: Path) -> None:
    """K9 K2: an owner that still writes was ahead of the end that had been asked for before, and its successor
    took the log for truncated, and called a person.
    """
    order = []

    class Watched(LocalStore):
        def list(self, path: str) -> list[FileStatus]:
            order.append("chain")
            return super().list(path)

    def ask() -> LogFacts:
        order.append("end")
        return LogFacts(0, 100, None, 1)

    owner = Owner("one", lambda: 1, "c")
    commit.claim(Watched(str(tmp_path)), PID, owner, window_ms=HOUR_MS, ask=ask, latest=False)
    assert order[:2] == ["chain", "end"]


def test_how_many_partitions_a_topic_first_had_is_read_once_for_all_claims_of_a_process(tmp_path: Path) -> None:
    """A start with a thousand partitions read the same file a thousand times."""
    read = []

    class Watched(LocalStore):
        def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
            read.append(path.rsplit("/", 1)[1])
            return super().read(path, offset, length)

    store, owner, firsts = (
        Watched(str(tmp_path)),
        Owner("one", lambda: 1, "c"),
        dict[tuple[str, str], commit.TopicSeen](),
    )

    def ask() -> LogFacts:
        return LogFacts(0, 100, None, 4)

    for number in range(4):
        pid = PartitionId(PID.topic, PID.topic_id, number)
        commit.claim(store, pid, owner, window_ms=HOUR_MS, ask=ask, latest=False, firsts=firsts)
    assert read.count(layout.topic_path(PID.topic, PID.topic_id).rsplit("/", 1)[1]) == 1
    # and what was remembered decides as what was read: partition 4 has come later, and joins
    later = PartitionId(PID.topic, PID.topic_id, 4)
    head = commit.read_head(store, PID)
    assert head is not None
    closed = commit.append(store, ledger.join(head, until=HOUR_MS, at=1))
    assert closed.state.frontier == HOUR_MS
    joined = commit.claim(store, later, owner, window_ms=HOUR_MS, ask=ask, latest=False, firsts=firsts)
    assert joined.state.frontier == HOUR_MS


def test_what_is_known_to_be_finished_never_goes_back() -> None:
    """K3: a worker that had lost a partition and regained it wrote its old knowledge into the ledger, which no
    longer named the entries of the hours in between: they were looked for, and held back all that came after.
    """
    state = ledger.genesis(PID, window_ms=HOUR_MS, start=0, owner="o", at=1, config="c").state
    router = Router(Rules(), replace(state, finished_until=5 * HOUR_MS))
    for known, expected in [(3, 5), (None, 5), (6, 6)]:
        router.know_finished(None if known is None else known * HOUR_MS)
        assert router.finished_until == expected * HOUR_MS


def test_a_partition_that_comes_and_goes_within_one_poll_is_let_go(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K1 K3 P7: it was claimed all the same, fencing its owner, and then the worker died of reading what it does
    not own.
    """

    def at_once(self: LaterCalls, _name: str, call: Callable[[], Any], then: Callable[[Any], None], **_: bool) -> None:
        """A thread may be that quick."""
        answer = call()
        self._todo.append((lambda: answer, then))

    monkeypatch.setattr(LaterCalls, "submit", at_once)
    variant = Variant("complete", "side", concat=False)
    with game(*settings(variant), variant.store, tmp_path / "run", clock) as played_game:
        host = played_game.host("one", [0, 1])
        host.step()
        assert host.source is not None
        host.source.lose([("app", 1)])
        for _ in range(5):
            host.step()
        assert host.worker is not None
        assert list(host.worker._slots) == [("app", 0)]
        assert not tree.chain(played_game.root, "app", "VGhlVG9waWNJZA", 1)
