"""The same on real HDFS, where hours are merged by concat, and against real Kafka."""

from __future__ import annotations

from pathlib import Path

import pytest

from logflume.kafka.topics import Topics
from logflume.model import HOUR_MS
from logflume.reconcile.findings import What
from logflume.reconcile.model import Options
from logflume.reconcile.run import Run, reconcile
from tests.conftest import TopicFactory
from tests.reconcile.conftest import Reconcile
from tests.reconcile.test_repair import undecided_publish
from tests.reconcile.tree import FIRST_HOUR, TOPIC, Tree
from tests.stack import Stack


@pytest.fixture
def tree(tmp_path: Path, stack: Stack, hdfs_root: str) -> Tree:
    url = f"hdfs://{stack.namenode_rpc}{hdfs_root}/out"
    return Tree(tmp_path, url=url, namenode_http=stack.namenode_http)


def test_on_hdfs_hours_are_proved_damaged_and_repaired(tree: Tree, reconciled: Reconcile) -> None:
    tree.fill(2)
    assert reconciled(tree, deep=True).findings == []
    root, hour = tree.store.root, tree.hour(0)
    tree.store.delete(f"{root}/{hour}/_SUCCESS")
    undecided_publish(tree)
    late = next(status for status in tree.store.list(f"{root}/_late/app/dt=2026-11-22/hour=07"))
    tree.store.delete(late.path)
    tree.store.write(f"{root}/{tree.hour(1)}/mine.txt", b"x")
    found = reconciled(tree, full=True)
    assert sorted(one.what for one in found.findings) == [
        What.FILE_MISSING,
        What.FILE_UNKNOWN,
        What.MARKER_MISSING,
        What.PART_UNPUBLISHED,
    ]
    mended = reconciled(tree, full=True, repair=True)
    assert sorted(one.what for one in mended.mended) == [What.MARKER_MISSING, What.PART_UNPUBLISHED]
    assert sorted(one.what for one in mended.findings) == [What.FILE_MISSING, What.FILE_UNKNOWN]
    assert tree.store.stat(f"{root}/{hour}/_SUCCESS") is not None


def test_on_hdfs_a_finisher_that_never_came_is_replaced(tree: Tree, reconciled: Reconcile) -> None:
    tree.fill(2, finish=False)
    assert reconciled(tree, repair=True).exit_code == 11
    names = [status.name for status in tree.store.list(f"{tree.store.root}/{tree.hour(0)}")]
    assert names == ["_SUCCESS", "app-00000-of-00001.json.gz"]
    assert reconciled(tree, full=True, deep=True).findings == []


def ids(stack: Stack, topic: str) -> str:
    return Topics({"bootstrap.servers": stack.bootstrap}).topic(topic).topic_id


def test_lost_and_truncated_offsets_and_a_new_topic_are_found(
    tmp_path: Path, stack: Stack, topic_factory: TopicFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger has decided offsets that this log never had; and its id is not that of another topic."""
    topic = topic_factory(partitions=2)
    monkeypatch.setattr("tests.reconcile.tree.TOPIC", topic)
    tree = Tree(tmp_path, topic_id=ids(stack, topic))
    tree.ingests[0].feed([FIRST_HOUR + 1, FIRST_HOUR + HOUR_MS])
    tree.ingests[0].decide(everything=True)
    run = Run(tree.store, tree.config, "x", Options(), topics=lambda: Topics({"bootstrap.servers": stack.bootstrap}))
    report = reconcile(run)
    assert report.kafka == "compared"
    assert [(one.what, one.partition) for one in report.findings] == [(What.KAFKA_TRUNCATED, 0)]
    other = Tree(tmp_path / "other", topic_id="another-id")
    run.store, run.config = other.store, other.config
    assert [one.what for one in reconcile(run).findings] == [What.TOPIC_RECREATED]


def test_kafka_that_does_not_answer_is_a_note(tmp_path: Path) -> None:
    tree = Tree(tmp_path).fill(1)
    settings = {"bootstrap.servers": "127.0.0.1:1"}
    run = Run(tree.store, tree.config, "x", Options(patience_ms=0), topics=lambda: Topics(settings, timeout_s=1.0))
    report = reconcile(run)
    assert (report.kafka, report.exit_code) == ("unreachable", 0)
    assert [one.what for one in report.findings] == [What.KAFKA_UNREACHABLE]
    assert TOPIC in report.topics
