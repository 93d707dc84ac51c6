"""Finishers whose concat is refused, from the beginning or in the middle, switched and killed at every effect."""

from __future__ import annotations

import gzip
import itertools
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from logflume.core import layout
from logflume.core.ledger import Closing
from logflume.errors import CannotConcat, StoreError
from logflume.finish import run
from logflume.finish.plan import PartitionHour, Plan, make_plan
from logflume.model import HOUR_MS, Kind
from logflume.store.local import LocalStore
from tests.crash.test_finishers import LINES, PARTS, One
from tests.sim import tree
from tests.sim.adversary import DAY
from tests.sim.gates import ConcatStore, Effect, GatedStore
from tests.sim.world import TOPIC, TOPIC_ID

DATA = [gzip.compress(line, mtime=0) for line in LINES.values()]


class Refusing(ConcatStore):
    """Takes one source a transaction, and refuses those with the numbers that ``refused`` says."""

    def __init__(self, root: str, refused: Callable[[int], bool]) -> None:
        super().__init__(root)
        self._numbers, self._refused = itertools.count(), refused

    def concat(self, target: str, sources: Sequence[str]) -> None:
        for source in sources:
            if os.path.isfile(target) and os.path.isfile(source) and self._refused(next(self._numbers)):
                raise CannotConcat(f"concat {target}: {source} is in snapshot")
            super().concat(target, [source])


#: what a snapshot, and one that comes or goes meanwhile, looks like
REFUSED: dict[str, Callable[[int], bool]] = {
    "all": lambda _: True,
    "after one": lambda number: number >= 1,
    "every other": lambda number: number % 2 == 0,
    "the first": lambda number: number == 0,
}


def plan() -> Plan:
    closing = Closing(None, DAY + HOUR_MS, 1, "watermark", DAY)
    hours = {number: PartitionHour((one,), closing) for number, one in enumerate(PARTS)}
    found = make_plan(TOPIC, TOPIC_ID, DAY, HOUR_MS, hours, target_bytes=1 << 20, reveal="complete")
    assert [len(file.parts) for file in found.files] == [3]
    return found


def finish(gated: GatedStore) -> None:
    """Again after a store's error, as the daemon does. Each part that is copied is an effect of its own."""

    def progress(what: str) -> None:
        if what == "copy":
            gated._gate(Effect("copy", "", changes=False), lambda: None)

    for _ in range(3):
        try:
            run.finish(gated, plan(), progress=progress)
        except StoreError:
            continue
        return
    raise AssertionError("three times in a row")


class Trial:
    """Two finishers; what ``refused`` says is said to both, or to the first one only: the snapshot goes."""

    def __init__(self, root: Path, refused: str, *, both: bool) -> None:
        shutil.rmtree(root, ignore_errors=True)
        for number, one in enumerate(PARTS):
            # one that its owner has not published, and never will
            path = root / (one.tmp if number == 1 else one.path)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(DATA[number])
        self.root = root
        store: LocalStore = Refusing(str(root), REFUSED[refused])
        self.one = One("one", finish, store)
        self.two = One("two", finish, store if both else ConcatStore(str(root)))

    def check(self) -> None:
        found = tree.read(self.root, TOPIC)
        hour = layout.hour_directory(DAY)
        assert found.holdings == {(Kind.HOUR, hour, f"{number}/0"): 1 for number in range(len(PARTS))}
        assert not tree.leftovers(found, TOPIC_ID)
        assert found.hours[hour].marker == layout.SUCCESS
        whole = self.root / layout.hour_path(TOPIC, DAY, HOUR_MS) / plan().files[0].name
        assert whole.read_bytes() == b"".join(DATA)

    @property
    def copies(self) -> list[str]:
        """What is left of copying."""
        return os.listdir(self.root / layout.topic_directory(TOPIC, TOPIC_ID) / "tmp")


def length(root: Path, refused: str) -> int:
    trial = Trial(root, refused, both=True)
    trial.one.rest()
    trial.check()
    assert trial.copies == []
    return trial.one.effects + 1


@pytest.mark.parametrize("both", [True, False], ids=["refused", "allowed since"])
@pytest.mark.parametrize("refused", REFUSED)
def test_a_finisher_that_died_at_any_effect_is_followed_by_another(root: Path, refused: str, both: bool) -> None:
    for i in range(length(root, refused) + 1):
        trial = Trial(root, refused, both=both)
        trial.one.steps(i)
        trial.one.kill()
        with noted(f"one died at {i}"):
            trial.two.rest()
            trial.check()


@pytest.mark.parametrize("both", [True, False], ids=["refused", "allowed to the other"])
@pytest.mark.parametrize("refused", REFUSED)
def test_two_finishers_make_one_hour_wherever_they_are_switched(root: Path, refused: str, both: bool) -> None:
    n = length(root, refused)
    for i, j in itertools.product(range(n + 1), range(n + 1)):
        if (i + j) % 3:
            continue  # each place of either is there with every third of the other: all of them take a minute
        trial = Trial(root, refused, both=both)
        with noted(f"one {i}, two {j}"):
            trial.one.steps(i)
            trial.two.steps(j)
            trial.one.rest()
            trial.two.rest()
            trial.check()


@contextmanager
def noted(note: str) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        error.add_note(note)
        raise
