"""Hours whose parts HDFS does not concat: they are in a snapshot."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from tests.reconcile.conftest import Reconcile, quick_looks, reconciled
from tests.reconcile.tree import Tree
from tests.stack import Stack
from tests.stack.hadoop import snapshot

__all__ = ["quick_looks", "reconciled"]  # fixtures


@pytest.mark.parametrize("appended", [0, 1], ids=["none appended", "some appended"])
@pytest.mark.parametrize("scheme", ["hdfs", "webhdfs"])
def test_an_hour_in_a_snapshot_is_finished_by_copying(
    tmp_path: Path, stack: Stack, hdfs_root: str, reconciled: Reconcile, scheme: str, appended: int
) -> None:
    authority = stack.namenode_rpc if scheme == "hdfs" else stack.namenode_http.removeprefix("http://")
    tree = Tree(tmp_path, url=f"{scheme}://{authority}{hdfs_root}/out", namenode_http=stack.namenode_http)
    tree.fill(1, finish=False)
    hour = f"{tree.store.root}/{tree.hour(0)}"
    first, *others = (status.path for status in tree.store.list(hour))
    assert len(others) > 1
    lines = [line for path in (first, *others) for line in gzip.decompress(tree.store.read(path)).splitlines()]
    if appended:
        tree.store.concat(first, others[:appended])
    with snapshot(stack.namenode_http, hour):
        tree.finish()
        assert [status.name for status in tree.store.list(hour)] == ["_SUCCESS", "app-00000-of-00001.json.gz"]
        shown = gzip.decompress(tree.store.read(f"{hour}/app-00000-of-00001.json.gz"))
        assert shown.splitlines() == lines
        assert reconciled(tree, full=True, deep=True).findings == []
