"""A repair between two tries of a compaction has changed check sums."""

from __future__ import annotations

import pytest

from logflume.backfill.look import Found, Wanted, find
from logflume.compact.plan import Wish
from logflume.compact.record import Place
from logflume.compact.run import Job, compact
from logflume.model import HOUR_MS
from logflume.reconcile.run import reconcile
from tests.backfill.test_repair_steps import Scene, quick_looks, scene
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
