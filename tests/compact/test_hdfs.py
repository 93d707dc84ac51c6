"""On real HDFS: concat, and rewriting by copying."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from logflume.compact import record as records
from logflume.compact.record import Place, Spot
from logflume.compact.run import compact as run
from logflume.model import HOUR_MS
from logflume.store import Store
from tests.compact.test_compact import PLACES, SETTINGS, job
from tests.reconcile.conftest import Reconcile, quick_looks, reconciled
from tests.reconcile.tree import FIRST_HOUR, TOPIC, TOPIC_ID, Tree
from tests.stack import Stack
from tests.stack.hadoop import snapshot

__all__ = ["quick_looks", "reconciled"]  # fixtures


def lines(store: Store, place: Place) -> list[bytes]:
    found = [one for one in store.list(f"{store.root}/{PLACES[place]}") if not one.name.startswith("_")]
    return sorted(line for one in found for line in gzip.decompress(store.read(one.path)).splitlines())


def small_files(tmp_path: Path, stack: Stack, hdfs_root: str, place: Place) -> Tree:
    url = f"hdfs://{stack.namenode_rpc}{hdfs_root}"
    tree = Tree(tmp_path, settings=SETTINGS.get(place, {}), url=url, namenode_http=stack.namenode_http)
    tree.fill(2, records=4)
    for ingest in tree.ingests:
        ingest.feed([ingest.now])
        ingest.decide(everything=True)
    return tree


@pytest.mark.parametrize("place", [Place.HOUR, Place.LATE])
def test_files_in_a_snapshot_become_one_by_copying(
    tmp_path: Path, stack: Stack, hdfs_root: str, place: Place, reconciled: Reconcile
) -> None:
    tree = small_files(tmp_path, stack, hdfs_root, place)
    before = lines(tree.store, place)
    with snapshot(stack.namenode_http, f"{tree.store.root}/{PLACES[place]}"):
        assert [(one.state, one.copied) for one in run(tree.store, job(place)) if one.spot.hour == FIRST_HOUR] == [
            ("compacted", True)
        ]
        assert lines(tree.store, place) == before
        assert run(tree.store, job(place)) == []
        assert [one.what for one in reconciled(tree, full=True, deep=True).findings] == []


@pytest.mark.parametrize("place", [Place.HOUR, Place.LATE])
def test_small_files_become_one_without_copying_and_then_one_that_is_copied(
    tmp_path: Path, stack: Stack, hdfs_root: str, place: Place, reconciled: Reconcile
) -> None:
    tree = small_files(tmp_path, stack, hdfs_root, place)
    before = lines(tree.store, place)
    assert [(one.state, one.copied) for one in run(tree.store, job(place)) if one.spot.hour == FIRST_HOUR] == [
        ("compacted", False)
    ]
    assert lines(tree.store, place) == before
    assert run(tree.store, job(place)) == []
    again = [one for one in run(tree.store, job(place, rewrite=True)) if one.spot.hour == FIRST_HOUR]
    assert [(one.state, one.copied, one.after) for one in again] == [("compacted", True, 1)]
    assert lines(tree.store, place) == before
    last = records.newest(tree.store, Spot(TOPIC, TOPIC_ID, place, FIRST_HOUR, HOUR_MS))
    assert last is not None
    assert last.number == 1
    assert [one.what for one in reconciled(tree, full=True, deep=True).findings] == []
