"""What the enumeration and the simulator found, each by itself: the first of its kind among the points."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.points import Point, Variant, numbered, run
from tests.sim.host import played
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
