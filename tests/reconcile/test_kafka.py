"""What is found in Kafka of one topic does not depend on the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from logflume.kafka.embedded import EmbeddedBroker, Outgoing, produce
from logflume.kafka.topics import MOCK_TOPIC_ID, Topics
from logflume.reconcile.findings import What
from logflume.reconcile.model import Options
from logflume.reconcile.run import Run, reconcile
from tests.reconcile.tree import Tree


def test_a_topic_that_cannot_be_asked_keeps_no_findings_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One before it and one after it, of logs that end below what was decided; of its own, partition 4 is not there."""
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
        (What.KAFKA_UNREACHABLE, "b"),
        (What.KAFKA_TRUNCATED, "c"),
    ]
    assert (report.kafka, report.exit_code) == ("unreachable", 9)
