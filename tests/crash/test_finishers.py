"""Two finishers and a slow owner at one hour, switched at every effect: S7, and S5 beside it."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from logflume import commit
from logflume.core import layout, ledger
from logflume.core.ledger import Closing, Entry, Part
from logflume.errors import StoreError
from logflume.finish import run
from logflume.finish.plan import PartitionHour, Plan, make_plan
from logflume.model import HOUR_MS, Kind, OffsetSet, PartitionId
from logflume.store.local import LocalStore
from tests.sim import tree
from tests.sim.adversary import DAY
from tests.sim.baton import Actor
from tests.sim.gates import ConcatStore, Effect, GatedStore
from tests.sim.world import TOPIC, TOPIC_ID

LINES = {0: b'{"id":"0/0"}\n', 1: b'{"id":"1/0"}\n', 2: b'{"id":"2/0"}\n'}


def part(number: int) -> Part:
    """Each partition has one."""
    pid, data = PartitionId(TOPIC, TOPIC_ID, number), gzip.compress(LINES[number], mtime=0)
    path = layout.part_path(pid, Kind.HOUR, DAY, 0, HOUR_MS, ".json.gz", early=False, append=False)
    tmp, digest = layout.tmp_path(pid, "t"), hashlib.sha256(data).hexdigest()
    return Part(Kind.HOUR, DAY, path, tmp, len(data), len(LINES[number]), 1, digest, OffsetSet([0]), DAY, DAY)


PARTS = [part(number) for number in LINES]


def plan() -> Plan:
    closing = Closing(None, DAY + HOUR_MS, 1, "watermark", DAY)
    hours = {number: PartitionHour((one,), closing) for number, one in enumerate(PARTS)}
    # the first two fit into one file
    return make_plan(TOPIC, TOPIC_ID, DAY, HOUR_MS, hours, target_bytes=2 * PARTS[0].size, reveal="complete")


def entry() -> Entry:
    """The decision whose owner is slow to publish."""
    pid = PartitionId(TOPIC, TOPIC_ID, 1)
    first = ledger.genesis(pid, window_ms=HOUR_MS, start=0, owner="o", at=DAY, config="c")
    return Entry(pid, 1, "", "decide", "o", 1, DAY, "c", first.state, (PARTS[1],))


class One(Actor):
    """Does its job one effect a step."""

    def __init__(self, name: str, job: Callable[[GatedStore], Any], inner: LocalStore) -> None:
        super().__init__(name, lambda: job(GatedStore(inner, self._gate)))
        self.effects = 0

    def _gate(self, _effect: Effect, do: Callable[[], Any]) -> Any:
        self.effects += 1
        self.wait()
        return do()

    def steps(self, count: int) -> None:
        for _ in range(count):
            self.step()

    def rest(self) -> None:
        while not self.done:
            self.step()


def finish(gated: GatedStore) -> None:
    """As the daemon does: again after a store's error, for instance when a source of a copy is gone; but a
    Stopped would call a person, and here is nothing for one.
    """
    for _ in range(3):
        try:
            run.finish(gated, plan())
        except StoreError:
            continue
        return
    raise AssertionError("three times in a row")


def fresh(root: Path) -> None:
    shutil.rmtree(root, ignore_errors=True)
    for number, one in enumerate(PARTS):
        # of the second the owner has not published yet
        path = root / (one.tmp if number == 1 else one.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(LINES[number], mtime=0))


def check(root: Path) -> None:
    found = tree.read(root, TOPIC)
    expected = {(Kind.HOUR, layout.hour_directory(DAY), f"{number}/0"): 1 for number in LINES}
    assert found.holdings == expected
    assert not tree.leftovers(found, TOPIC_ID)
    assert found.hours[layout.hour_directory(DAY)].marker == layout.SUCCESS


class Trial:
    def __init__(self, root: Path, kind: type[LocalStore]) -> None:
        fresh(root)
        self.root, store = root, kind(str(root))
        self.one, self.two = (One(name, finish, store) for name in ("one", "two"))
        self.owner = One("owner", lambda gated: commit.publish(gated, entry()), store)

    def end(self, *, alive: bool = True) -> None:
        if alive:
            self.one.rest()
        else:
            self.one.kill()
        self.two.rest()
        self.owner.rest()
        check(self.root)


def length(root: Path, kind: type[LocalStore]) -> int:
    trial = Trial(root, kind)
    trial.end()
    return trial.one.effects + 1


@pytest.mark.parametrize("kind", [LocalStore, ConcatStore])
def test_two_finishers_and_a_slow_owner_make_one_hour_wherever_they_are_switched(
    root: Path, kind: type[LocalStore]
) -> None:
    """Z3 H11: one goes i effects, the other j, the owner publishes before, between or after, and all go on."""
    n = length(root, kind)
    # the marker must come last, so every i and j matters; of the owner's places, one a pair
    for i, j in itertools.product(range(n + 1), range(n + 1)):
        trial = Trial(root, kind)
        place = (i + j) % 3
        if place == 0:
            trial.owner.rest()
        trial.one.steps(i)
        if place == 1:
            trial.owner.rest()
        trial.two.steps(j)
        if place == 2:
            trial.owner.rest()
        try:
            trial.end(alive=(i * j) % 2 == 0)
        except BaseException as error:
            error.add_note(f"one {i}, two {j}, the owner at {place}")
            raise


@pytest.mark.parametrize("kind", [LocalStore, ConcatStore])
def test_a_finisher_that_died_at_any_effect_is_followed_by_another(root: Path, kind: type[LocalStore]) -> None:
    """P2: with the owner's publishing before, at, and after its death."""
    for i, when in itertools.product(range(length(root, kind) + 1), range(3)):
        trial = Trial(root, kind)
        trial.one.steps(i // 2 if when == 1 else i)
        if when < 2:
            trial.owner.rest()
        trial.one.kill()
        trial.end(alive=False)
        assert os.path.exists(root / layout.hour_path(TOPIC, DAY, HOUR_MS) / layout.SUCCESS)
