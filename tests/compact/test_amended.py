"""A repair between two tries of a compaction has changed check sums."""

from __future__ import annotations

import pytest

from logflume.backfill.look import Found, Wanted, find
from logflume.compact.plan import Wish
from logflume.compact.record import Place
from logflume.compact.run import Job, compact
from logflume.model import HOUR_MS, Kind
from logflume.reconcile.run import reconcile
from tests.backfill.test_repair_left import decide_late, late_job, late_lines
from tests.backfill.test_repair_steps import Scene, parts_of, quick_looks, scene
from tests.reconcile.conftest import run_of
from tests.reconcile.tree import FIRST_HOUR, TOPIC, TOPIC_ID, flip

__all__ = ["quick_looks", "scene"]  # fixtures


@pytest.mark.parametrize("scene", [True], indirect=True, ids=["other bytes"])
def test_a_rewrite_that_stopped_at_a_damaged_part_is_completed_after_its_repair(scene: Scene) -> None:
    tree = scene.tree
    flip(tree.finished(0))
    wish = Wish(1 << 30, rewrite=True)
    job = Job(TOPIC, TOPIC_ID, HOUR_MS, wish, (Place.HOUR,), until_ms=FIRST_HOUR + HOUR_MS)
    assert [one.state for one in compact(tree.store, job)] == ["failed"]
    scene.run(tree.store)
    assert [one.state for one in compact(tree.store, job)] == ["compacted"]
    assert compact(tree.store, job) == []
    assert find(tree.store, scene.job, TOPIC_ID, Wanted(TOPIC)) == Found((), ())
    assert reconcile(run_of(tree, full=True, deep=True, repair=True)).findings == []


@pytest.mark.parametrize("scene", [False, True], indirect=True, ids=["same bytes", "other bytes"])
def test_a_damaged_late_file_is_mended_and_compacted_then(scene: Scene) -> None:
    """Where files are copied, nothing is on record before they were read."""
    tree = scene.tree
    decide_late(tree)
    scene.bytes = parts_of(tree)
    before = late_lines(tree.store, tree)
    bad = min(tree.path(tree.hour(0, Kind.LATE)).glob("p*"))
    flip(bad)
    assert [one.state for one in compact(tree.store, late_job()) if one.spot.hour == FIRST_HOUR] == ["failed"]
    found = find(tree.store, scene.job, TOPIC_ID, Wanted(TOPIC))
    assert [mend.path.rsplit("/", 1)[1] for mend in found.mends] == [bad.name]
    assert found.skipped == ()
    scene.run(tree.store)
    assert [one.state for one in compact(tree.store, late_job()) if one.spot.hour == FIRST_HOUR] == ["compacted"]
    assert late_lines(tree.store, tree) == before
    assert reconcile(run_of(tree, full=True, deep=True, repair=True)).findings == []
