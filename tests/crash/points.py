"""Every point at which a host can be interrupted, and what each of them must come to.

A run that nobody interrupts numbers the effects of its host. Then, for each effect and each way to
interrupt it, the run is made again, interrupted there, and taken to its end by those who are left.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from logflume.errors import Unreachable
from logflume.store.local import LocalStore
from tests.sim.adversary import Adversary, adversary, config
from tests.sim.game import Game, game
from tests.sim.gates import ConcatStore, Effect
from tests.sim.host import Host
from tests.sim.world import Clock

#: turns from a death until the group gives the partitions to somebody else
SESSION_TURNS = 3


@dataclass(frozen=True, slots=True)
class Variant:
    """A topic's settings, a kind of store, and who owns what: ``pair`` means a partition each."""

    reveal: str
    late: str
    concat: bool
    pair: bool = False

    def __str__(self) -> str:
        store = "concat" if self.concat else "copy"
        return f"reveal={self.reveal} late={self.late} {store} {'two hosts' if self.pair else 'one host'}"

    @property
    def store(self) -> Callable[[str], LocalStore]:
        return ConcatStore if self.concat else LocalStore


@dataclass(frozen=True, slots=True)
class Point:
    """``how`` the effect with this number is interrupted, ``who`` goes on, and after how many of its own
    effects the interrupted one wakes (-1: at the end), where it does.
    """

    number: int
    how: str
    who: str
    wakes: int = -1

    def __str__(self) -> str:
        return f"{self.number}:{self.how}:{self.who}:{self.wakes}"

    @classmethod
    def parse(cls, text: str) -> Point:
        number, how, who, wakes = text.split(":")
        return cls(int(number), how, who, int(wakes))


def points(effects: list[Effect], wakes: Sequence[int]) -> Iterator[Point]:
    """All of them. A crash after an effect is the crash before the next one that changes anything."""
    for number, effect in enumerate(effects):
        if effect.changes:
            for who in ("same", "new"):
                yield Point(number, "kill", who)
                if effect.tear is not None:
                    yield Point(number, "tear", who)
        yield Point(number, "fail", "itself")
        if effect.changes and effect.call != "spool":
            yield Point(number, "lose", "itself")
            # the request itself was on its way when its sender died
            yield Point(number, "delay", "new")
        for wake in (-1, *wakes):
            if effect.changes and effect.call != "spool":
                yield Point(number, "late", "new", wake)
            if effect.changes or wake < 0:
                yield Point(number, "pause", "new", wake)
    yield Point(len(effects), "kill", "new")


class Interrupted:
    """What the interrupted host does at its effects."""

    def __init__(self, host: Host, point: Point, expected: Effect | None) -> None:
        self._host, self._point, self._expected = host, point, expected
        self.met: Effect | None = None
        self.landed = False
        host.order = self

    def __call__(self, number: int, effect: Effect, do: Callable[[], Any]) -> Any:
        if number != self._point.number:
            return do()
        self.met = effect
        assert self._expected is None or self._expected.call == effect.call, f"{effect} and not {self._expected}"
        match self._point.how:
            case "kill":
                self._host.die()
            case "tear":
                assert effect.tear is not None
                effect.tear()
                self._host.die()
            case "fail":
                raise failure(effect)
            case "lose":
                do()
                raise failure(effect)
            case "pause":
                self._host.hold()
                return do()
            case "late":
                # slow, and the answer never comes
                self._host.hold()
                do()
                raise failure(effect)
            case "delay":
                self._host.hold()
                do()
                self.landed = True
                self._host.die()
        raise AssertionError(self._point.how)


def failure(effect: Effect) -> Exception:
    if effect.call == "spool":
        return OSError(errno.ENOSPC, "no space left on device")
    return Unreachable(f"{effect}: no answer")


@cache
def settings(variant: Variant) -> tuple[Adversary, Any]:
    return adversary(), config(reveal=variant.reveal, late=variant.late)


def numbered(variant: Variant, directory: Path, clock: Clock) -> list[Effect]:
    """The effects of a run that nobody interrupts."""
    effects: list[Effect] = []

    def order(_number: int, effect: Effect, do: Callable[[], Any]) -> Any:
        effects.append(effect)
        return do()

    with game(*settings(variant), variant.store, directory, clock) as played:
        first, others = hosts(played, variant)
        first.order = order
        played.play(first, *others)
        played.check()
    return effects


def hosts(played: Game, variant: Variant) -> tuple[Host, list[Host]]:
    if not variant.pair:
        return played.host("first", [0, 1], owner_name="first:1"), []
    # the finisher is the owner of partition 0: here it goes on while the other one is interrupted
    return played.host("first", [1], owner_name="first:1"), [played.host("other", [0], owner_name="other:1")]


def run(variant: Variant, point: Point, directory: Path, clock: Clock, expected: Effect | None = None) -> None:
    """One interrupted run. Raises AssertionError for what may not be."""
    with game(*settings(variant), variant.store, directory, clock) as played:
        first, others = hosts(played, variant)
        interrupted = Interrupted(first, point, expected)
        play_until(played, first, others)
        if first.held or not first.done or not played.finished:
            take_over(played, variant, point, first, others)
        if interrupted.landed and interrupted.met is not None and "/plans/" in interrupted.met.path:
            # nobody is left who could know; reconcile finds it
            played.explained.add(f"the plan {interrupted.met.path.rsplit('/', 1)[1]} of a marked hour")
        played.check()
    assert expected is None or interrupted.met is not None, f"{point}: the effect was not met"


def play_until(played: Game, first: Host, others: list[Host]) -> None:
    """To the interruption, or to the end."""
    if not others:
        played.play(first)
        return
    while first.runs and not played.finished:
        for host in (first, *others):
            if host.runs:
                played.turn(host)
    if played.finished:
        played.play(first, *others)


def take_over(played: Game, variant: Variant, point: Point, first: Host, others: list[Host]) -> None:
    played.finished = False  # whoever comes has to claim, and to find nothing left
    if others and not others[0].done:
        heir = others[0]
        for _ in range(SESSION_TURNS):
            played.turn(heir)
        heir.assign(played.parts)
    else:
        name = "first:1" if point.who == "same" else "second:1"
        heir = played.host("second", [0, 1], owner_name=name)
    if first.done:
        played.play(heir)
        return
    if point.wakes >= 0:
        hold_at(heir, heir.effects + point.wakes)
    played.play(heir)
    wake(played, first)
    if heir.held:
        heir.held = False
        played.play(heir)


def hold_at(host: Host, at: int) -> None:
    def order(number: int, _effect: Effect, do: Callable[[], Any]) -> Any:
        if number == at:
            host.hold()
        return do()

    host.order = order


def wake(played: Game, first: Host) -> None:
    """The interrupted one goes on where it was, and hears at its next poll that its time was over."""
    first.held = False
    if first.source is not None:
        first.source.lose(played.parts)
    played.alone(first, leave=True)
