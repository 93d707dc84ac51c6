"""What is found in Kafka of one partition does not depend on the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from logflume.kafka.embedded import EmbeddedBroker, Outgoing, produce
from logflume.kafka.topics import MOCK_TOPIC_ID, Topics
from logflume.reconcile.findings import What
from logflume.reconcile.model import Options
from logflume.reconcile.run import Run, reconcile
from tests.reconcile.tree import Tree


def test_a_partition_that_is_not_there_keeps_no_findings_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All logs end below what was decided; of b, which has no partition 4, the others and both neighbours are told."""
    for name, partitions in (("a", 1), ("b", 5), ("c", 1)):
        monkeypatch.setattr("tests.reconcile.tree.TOPIC", name)
        tree = Tree(tmp_path, partitions=partitions, topic_id=MOCK_TOPIC_ID).fill(1)
    with EmbeddedBroker() as broker:
        for name in "abc":
            produce(broker.bootstrap, name, [Outgoing(0, b"x")])
        topics = Topics({"bootstrap.servers": broker.bootstrap})
        report = reconcile(Run(tree.store, tree.config, "x", Options(patience_ms=0), topics=lambda: topics))
    assert [(one.what, one.topic) for one in report.findings] == [
        (What.KAFKA_TRUNCATED, "a"),
        *[(What.KAFKA_TRUNCATED, "b")] * 4,
        (What.KAFKA_UNREACHABLE, "b"),
        (What.KAFKA_TRUNCATED, "c"),
    ]
    assert "(partitions 4 were not compared)" in report.findings[5].detail
    assert (report.kafka, report.exit_code) == ("unreachable", 9)
