"""Every offset is still proved after a compaction, and in the middle of one."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from logflume.compact.plan import Wish
from logflume.compact.record import Place
from logflume.compact.run import Job, compact
from logflume.model import HOUR_MS
from logflume.reconcile.findings import What
from logflume.store.local import LocalStore
from tests.compact.faults import OPENED, Died, dying
from tests.compact.test_compact import PLACES, check_marker, job, lines, shown, written
from tests.reconcile.conftest import Reconcile, quick_looks, reconciled
from tests.reconcile.tree import FIRST_HOUR, TOPIC, TOPIC_ID, Tree

__all__ = ["quick_looks", "reconciled"]  # fixtures


@OPENED
@pytest.mark.parametrize("place", Place)
def test_a_compacted_tree_is_clean(
    tmp_path: Path, reconciled: Reconcile, place: Place, opened: type[LocalStore]
) -> None:
    tree = written(tmp_path, place)
    tree.store = opened(tree.store.root)
    assert reconciled(tree).exit_code == 0
    assert compact(tree.store, job(place))
    assert [one.what for one in reconciled(tree).findings] == []
    assert [one.what for one in reconciled(tree, full=True, deep=True).findings] == []
    # what comes later, beside it and merged with it
    tree.ingests[0].feed([FIRST_HOUR + 9_000, b"no json"])
    tree.ingests[0].decide(everything=True)
    tree.ingests[0].feed([FIRST_HOUR + 9_000])
    tree.ingests[0].decide(everything=True)
    assert [one.what for one in reconciled(tree).findings] == []
    compact(tree.store, job(place))
    assert [one.what for one in reconciled(tree, full=True, deep=True).findings] == []


@pytest.mark.parametrize("place", Place)
def test_a_merged_file_that_is_gone_or_damaged_is_found(tmp_path: Path, reconciled: Reconcile, place: Place) -> None:
    tree = written(tmp_path, place)
    compact(tree.store, replace(job(place), grace_ms=0))
    name = next(name for name in shown(tree.store, place) if "-c0" in name or "-ac0" in name)
    path = tree.path(f"{PLACES[place]}/{name}")
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert What.FILE_DAMAGED in {one.what for one in reconciled(tree, full=True, deep=True).findings}
    path.unlink()
    found = reconciled(tree, full=True)
    assert What.FILE_MISSING in {one.what for one in found.findings}
    assert found.commands


@OPENED
@pytest.mark.parametrize("place", [Place.HOUR, Place.LATE])
def test_a_compaction_that_died_at_any_step_is_no_loss_and_repaired(
    tmp_path: Path, reconciled: Reconcile, place: Place, opened: type[LocalStore]
) -> None:
    tree = written(tmp_path / "a", place)
    original, at, repaired = tree.store.root, 0, 0
    before = lines(tree.store, place)
    wish = Job(TOPIC, TOPIC_ID, HOUR_MS, Wish(1 << 30), (place,), until_ms=FIRST_HOUR + HOUR_MS)
    while True:
        root = tmp_path / f"copy-{at}"
        shutil.copytree(original, root)
        tree.store = opened(str(root))
        try:
            compact(dying(tree.store, at), wish, now_ms=tree.ingests[0].now)
        except Died:
            repaired += repair(tree, place, reconciled)
            assert lines(tree.store, place) == before
        else:
            break
        at += 1
    assert repaired >= 1


def repair(tree: Tree, place: Place, reconciled: Reconcile) -> bool:
    """Whether there was a compaction to be completed."""
    found = {one.what for one in reconciled(tree, full=True).findings}
    assert found <= {What.COMPACTION_LEFT, What.TMP_LEFT, What.PLAN_LEFT}
    if What.COMPACTION_LEFT not in found:
        return False
    assert reconciled(tree, full=True, repair=True).exit_code == 11
    assert [one.what for one in reconciled(tree, full=True, deep=True).findings] == []
    if place is Place.HOUR:
        check_marker(tree.store)
    return True
