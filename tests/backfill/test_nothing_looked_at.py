"""A repair never says that all is right where it has looked at nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from logflume.backfill.look import Wanted, find
from logflume.backfill.model import Job
from logflume.errors import Incomplete
from logflume.kafka.embedded import EmbeddedBroker, Outgoing, produce
from logflume.kafka.topics import Topics
from logflume.model import HOUR_MS
from logflume.reconcile.findings import What
from logflume.reconcile.run import reconcile
from logflume.store.local import LocalStore
from tests.backfill.test_repair_beside import trim
from tests.reconcile.conftest import quick_looks, run_of
from tests.reconcile.tree import FIRST_HOUR, TOPIC, TOPIC_ID, Tree

__all__ = ["quick_looks"]  # a fixture

OFFSETS = Wanted(TOPIC, partitions=(0,), offsets=(0, 1000))
HOUR = Wanted(TOPIC, hours=(FIRST_HOUR,))


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "tree").fill(3)


@pytest.fixture
def job(tree: Tree, tmp_path: Path) -> Job:
    return Job(tree.config, tree.url, TOPIC, "test", str(tmp_path / "spool"))


def test_a_file_past_ledger_retention_is_asked_for_by_its_hour(tree: Tree, job: Job) -> None:
    tree.finished(0).unlink()
    for ingest in tree.ingests:
        trim(tree.store, ingest.pid)
    report = reconcile(run_of(tree, full=True))
    assert report.commands == ["logflume backfill -c logflume.toml --topic app --hours 2026-11-22T07 --repair"]
    assert len(find(tree.store, job, TOPIC_ID, HOUR).mends) == 1
    with pytest.raises(Incomplete, match="nothing was looked at") as raised:
        find(tree.store, job, TOPIC_ID, replace(OFFSETS, offsets=(0, 10)))
    assert "--hours" in raised.value.hint


def test_hours_are_asked_for_together(tree: Tree) -> None:
    for number in (0, 2):
        tree.finished(number).unlink()
    assert reconcile(run_of(tree, full=True)).commands == [
        "logflume backfill -c logflume.toml --topic app --hours 2026-11-22T07,2026-11-22T09 --repair"
    ]


@pytest.mark.parametrize("wanted", [OFFSETS, HOUR, Wanted(TOPIC)], ids=["offsets", "hours", "all"])
def test_another_id_and_another_root_are_said(tree: Tree, job: Job, tmp_path: Path, wanted: Wanted) -> None:
    tree.finished(0).unlink()
    with pytest.raises(Incomplete, match="nothing was looked at"):
        find(tree.store, job, "the-new-id", wanted)
    with pytest.raises(Incomplete, match="nothing was looked at"):
        find(LocalStore(str(tmp_path / "elsewhere")), job, TOPIC_ID, wanted)


def test_an_hour_without_records_was_looked_at(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    for ingest in tree.ingests:
        ingest.feed([FIRST_HOUR + 1000, FIRST_HOUR + 3 * HOUR_MS])
        ingest.decide(everything=True)
    tree.finish()
    job = Job(tree.config, tree.url, TOPIC, "test", str(tmp_path / "spool"))
    found = find(tree.store, job, TOPIC_ID, Wanted(TOPIC, hours=(FIRST_HOUR + HOUR_MS,)))
    assert (found.mends, found.looked) == ((), 0)
    assert find(tree.store, job, TOPIC_ID, Wanted(TOPIC)).looked == 4


def test_a_file_of_a_topic_that_was_re_created_has_no_command(tree: Tree) -> None:
    tree.finished(0).unlink()
    with EmbeddedBroker() as broker:
        produce(broker.bootstrap, TOPIC, [Outgoing(0, b"x")])
        topics = Topics({"bootstrap.servers": broker.bootstrap})
        report = reconcile(replace(run_of(tree, full=True), topics=lambda: topics))
    assert {one.what for one in report.findings} == {What.FILE_OF_OLD_ID, What.TOPIC_RECREATED}
    assert (report.commands, report.exit_code) == ([], 9)
