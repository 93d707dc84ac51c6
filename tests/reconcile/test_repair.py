"""``--repair`` brings a tree to where the daemon would have brought it, and touches nothing else."""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from logflume import commit
from logflume.core import layout
from logflume.errors import Stopped, StoreError
from logflume.finish import plan as plans
from logflume.finish import run as finishing
from logflume.finish.reveal import reveal
from logflume.model import HOUR_MS, Kind
from logflume.reconcile.findings import What
from tests.reconcile.conftest import Reconcile
from tests.reconcile.tree import FIRST_HOUR, Ingest, Tree, configuration

LONG_AGO = 1_600_000_000


def undecided_publish(tree: Tree, number: int = 0) -> list[str]:
    """Decide, and die before publishing; returns the parts' paths."""
    ingest = tree.ingests[number]
    decision = ingest.cut(everything=True)
    for part in decision.round.parts:
        decision.uploaded[part.serial] = commit.upload(tree.store, ingest.pid, decision.files[part.serial], part.first)
    ingest.head = commit.append(tree.store, commit.entry_of(decision, ingest.owner))
    return [part.path for part in ingest.head.entry.parts]


def test_a_decided_part_is_published(tree: Tree, reconciled: Reconcile) -> None:
    paths = undecided_publish(tree)
    found = reconciled(tree)
    assert {(one.what, one.path) for one in found.findings} == {(What.PART_UNPUBLISHED, path) for path in paths}
    assert found.exit_code == 10
    mended = reconciled(tree, repair=True)
    assert (mended.exit_code, mended.findings, len(mended.mended)) == (11, [], len(paths))
    assert all(tree.path(path).exists() for path in paths)
    assert reconciled(tree, full=True, deep=True).exit_code == 0


def test_a_part_on_its_way_is_no_finding(tree: Tree, reconciled: Reconcile) -> None:
    tree.ingests[0].now = time.time_ns() // 1_000_000
    undecided_publish(tree)
    assert reconciled(tree, patience_ms=600_000).exit_code == 0
    assert reconciled(tree, patience_ms=0).exit_code == 10


@pytest.mark.parametrize("reveal", ["complete", "early"])
def test_hours_that_nobody_finishes_are_finished(tmp_path: Path, reconciled: Reconcile, reveal: str) -> None:
    """Byte for byte as the daemon would have, markers included."""
    wanted = Tree(tmp_path / "finished", settings={"reveal": reveal}).fill(3).snapshot()
    tree = Tree(tmp_path / "left", settings={"reveal": reveal}).fill(3, finish=False)
    found = reconciled(tree)
    assert {one.what for one in found.findings} == {What.MARKER_MISSING}
    assert len(found.findings) == 3
    mended = reconciled(tree, repair=True)
    assert (mended.exit_code, len(mended.mended)) == (11, 3)
    ours = tree.snapshot()
    assert {path for path in ours if "_logflume" not in path} == {path for path in wanted if "_logflume" not in path}
    assert reconciled(tree, full=True, deep=True).exit_code == 0


def test_a_removed_marker_is_written_again_as_it_was(tree: Tree, reconciled: Reconcile) -> None:
    before = tree.finished(1).read_bytes(), tree.marker(1).read_bytes()
    tree.marker(1).unlink()
    assert reconciled(tree, full=True, repair=True).exit_code == 11
    assert tree.finished(1).read_bytes() == before[0]
    # late and quarantined records so far are those of now
    ours, was = (
        [line for line in data.splitlines() if b"_so_far" not in line]
        for data in (tree.marker(1).read_bytes(), before[1])
    )
    assert ours == was


def test_a_marker_comes_back_although_the_configuration_would_make_other_files_now(
    tmp_path: Path, reconciled: Reconcile
) -> None:
    tree = Tree(tmp_path, settings={"roll_bytes": "1KiB", "target_bytes": "1KiB"}).fill(2, records=300)
    files = sorted(path.name for path in tree.path(tree.hour(0)).glob("app-*"))
    assert len(files) > 2
    tree.marker(0).unlink()
    tree.config = Tree(tmp_path / "other").config
    assert reconciled(tree, full=True, repair=True).exit_code == 11
    assert sorted(path.name for path in tree.path(tree.hour(0)).glob("app-*")) == files
    assert reconciled(tree, full=True, deep=True).exit_code == 0


@pytest.mark.parametrize("step", ["publish_left", "merge_and_reveal", "sweep", "mark", "delete"])
def test_a_finisher_that_died_at_any_step_is_taken_over(
    tmp_path: Path, reconciled: Reconcile, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    tree = Tree(tmp_path).fill(2, finish=False)

    def dies(*_: Any, **__: Any) -> None:
        raise StoreError("killed here")

    target: Any = tree.store if step == "delete" else finishing
    with monkeypatch.context() as patch:
        patch.setattr(target, step, dies)
        with pytest.raises(StoreError):
            tree.finish()
    found = reconciled(tree)
    assert {one.what for one in found.findings} <= {What.MARKER_MISSING, What.PLAN_LEFT, What.TMP_LEFT}
    assert reconciled(tree, repair=True).exit_code == 11
    # what the first look at a tmp could not tell from an upload in flight
    assert reconciled(tree, repair=True).exit_code in (0, 11)
    assert reconciled(tree, full=True, deep=True).exit_code == 0


def test_an_hour_with_a_missing_part_is_not_finished_without_it(tmp_path: Path, reconciled: Reconcile) -> None:
    tree = Tree(tmp_path).fill(2, finish=False)
    part = min(tree.path(tree.hour(0)).glob("_p00001*"))
    part.unlink()
    found = reconciled(tree, repair=True)
    assert found.exit_code == 9
    assert {one.what for one in found.findings} == {What.FILE_MISSING, What.MARKER_MISSING}
    assert [one.hour for one in found.mended] == ["2026-11-22T08"]
    assert not tree.marker(0).exists()
    assert found.commands == ["logflume backfill -c logflume.toml --topic app --hours 2026-11-22T07 --repair"]


def test_an_upload_in_flight_is_never_removed_however_old(tree: Tree, reconciled: Reconcile) -> None:
    """Its owner may be asleep, and decide when it wakes: removing it would lose the records (P2, K2)."""
    ingest = tree.ingests[0]
    decision = ingest.cut(everything=True)
    for part in decision.round.parts:
        name = commit.upload(tree.store, ingest.pid, decision.files[part.serial], part.first)
        decision.uploaded[part.serial] = name
    # a day passes
    assert reconciled(tree, repair=True).exit_code == 0
    ingest.head = commit.decide(tree.store, decision, ingest.owner)
    assert reconciled(tree, deep=True).exit_code == 0


@pytest.mark.parametrize("change", [b"", b"more"])
def test_a_spooled_file_of_another_length_than_was_written_is_not_decided(tree: Tree, change: bytes) -> None:
    ingest = tree.ingests[0]
    decision = ingest.cut(everything=True)
    path = next(iter(decision.files.values())).path
    path.write_bytes(path.read_bytes() + change if change else b"")
    with pytest.raises(Stopped, match="were written to it"):
        commit.decide(tree.store, decision, ingest.owner)
    assert commit.read_head(tree.store, ingest.pid) == ingest.head


def test_an_upload_of_a_fenced_owner_is_removed(tree: Tree, reconciled: Reconcile) -> None:
    old = tree.ingests[0]
    decision = old.cut(everything=True)
    names = [commit.upload(tree.store, old.pid, f, 1) for f in decision.files.values()]
    time.sleep(0.01)
    new = tree.ingest(0)
    assert new.head.entry.epoch == old.head.entry.epoch + 1
    kept = reconciled(tree, grace_ms=60_000)
    assert kept.exit_code == 0  # not old enough
    found = reconciled(tree, repair=True)
    assert {one.path for one in found.mended} == set(names)
    assert not any(tree.path(name).exists() for name in names)


def test_the_only_copy_of_a_decided_part_is_not_removed(tree: Tree, reconciled: Reconcile) -> None:
    paths = undecided_publish(tree)
    tmps = [part.tmp for part in tree.ingests[0].head.entry.parts]
    for tmp in tmps:
        os.utime(tree.path(tmp), (LONG_AGO, LONG_AGO))
    # in the way of publishing, so the repair cannot be done
    for path in paths:
        tree.path(path).parent.mkdir(parents=True, exist_ok=True)
        tree.path(path).write_bytes(b"somebody else's")
    found = reconciled(tree, repair=True)
    assert found.exit_code == 9
    assert all(tree.path(tmp).exists() for tmp in tmps)


def test_what_lies_around_is_removed(tree: Tree, reconciled: Reconcile) -> None:
    clean = tree.snapshot()
    top = layout.topic_directory("app", tree.topic_id)
    for name in (f"{top}/tmp/0123", layout.tmp_path(tree.pid(1), "0000000000000000007-dead"), f"{top}/plans/x.json"):
        tree.path(name).parent.mkdir(parents=True, exist_ok=True)
        tree.path(name).write_bytes(b"x")
        os.utime(tree.path(name), (LONG_AGO, LONG_AGO))
    tree.path(f"{top}/plans/x.json").rename(tree.path(f"{top}/plans/2026-11-22T08.json"))
    (tree.spool / "w3-0123456789ab").mkdir()
    found = reconciled(tree, repair=True)
    assert {one.what for one in found.mended} == {What.TMP_LEFT, What.PLAN_LEFT, What.SPOOL_LEFT}
    assert tree.snapshot() == clean
    assert not (tree.spool / "w3-0123456789ab").exists()
    assert reconciled(tree).exit_code == 0


def test_an_appended_part_that_was_not_shown_is_shown(tmp_path: Path, reconciled: Reconcile) -> None:
    tree = Tree(tmp_path, settings={"late": "append"}).fill(3)
    assert reconciled(tree, full=True, deep=True).exit_code == 0
    shown = min(tree.path(tree.hour(0)).glob("ap0*"))
    hidden = shown.with_name(f"_{shown.name}")
    shown.rename(hidden)
    # its hour was marked just now: the daemon is about to show it
    assert reconciled(tree, full=True, patience_ms=600_000).findings == []
    # said again by a run that reads only what is new, as long as it is so
    for full in (False, True, False):
        found = reconciled(tree, full=full)
        assert [(one.what, one.path.rsplit("/", 1)[1]) for one in found.findings] == [(What.PART_HIDDEN, hidden.name)]
    assert reconciled(tree, repair=True).exit_code == 11
    assert shown.exists()
    assert reconciled(tree, full=True, deep=True).exit_code == 0


def test_a_hidden_part_of_a_dropped_entry_is_shown(tmp_path: Path, reconciled: Reconcile) -> None:
    tree = Tree(tmp_path, settings={"late": "append"}).fill(3)
    shown = min(tree.path(tree.hour(0)).glob("ap0*"))
    shown.rename(shown.with_name(f"_{shown.name}"))
    for number in range(2):
        for path in tree.entries(number)[:-1]:
            path.unlink()
    found = reconciled(tree, full=True)
    assert [one.what for one in found.findings] == [What.PART_HIDDEN]
    assert reconciled(tree, full=True, repair=True).exit_code == 11
    assert shown.exists()


def test_what_a_daemon_is_about_to_tidy_is_no_finding(tree: Tree, reconciled: Reconcile) -> None:
    """An operator's marker beside the new one, and the spool of a worker that has just died."""
    marker = tree.marker(1)
    beside = marker.with_name(layout.INCOMPLETE)
    beside.write_bytes(plans.encode(replace(plans.decode(marker.read_bytes()), reveal=plans.OPERATOR)))
    spool = tree.spool / "w3-0123456789ab"
    spool.mkdir()
    assert reconciled(tree, patience_ms=600_000).findings == []
    found = reconciled(tree)
    assert {one.what for one in found.findings} == {What.REVEAL_LEFT, What.SPOOL_LEFT}
    assert reconciled(tree, repair=True).exit_code == 11
    assert not beside.exists()
    assert not spool.exists()


@pytest.mark.parametrize("full", [False, True])
def test_a_false_success_does_not_cost_an_hour_its_incomplete(tree: Tree, reconciled: Reconcile, full: bool) -> None:
    """Somebody has copied it, to let a job run."""
    marker = tree.marker(1)
    incomplete = marker.with_name(layout.INCOMPLETE)
    plan = plans.decode(marker.read_bytes())
    incomplete.write_bytes(plans.encode(replace(plan, incomplete=("partition 0: a gap",))))
    shutil.copy(incomplete, marker)
    found = reconciled(tree, full=full, repair=True)
    assert {one.what for one in found.findings} == {What.MARKER_WRONG}
    assert incomplete.exists()
    # nor does a finisher that comes by again
    finishing.tidy(tree.store, plan)
    assert incomplete.exists()


def test_a_partition_that_is_just_joining_makes_no_marker_early(
    tree: Tree, reconciled: Reconcile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was added, and its owner still reads, one after the other, what the others have closed."""
    monkeypatch.setattr(commit, "_join", lambda store, head, owner, earlier: head)
    Ingest(tree.store, tree.pid(2), tree.topic, tree.spool, partitions=3)
    for full in (False, True):
        assert reconciled(tree, full=full).findings == []


def test_hours_that_wait_longer_than_entries_are_kept_are_finished(tmp_path: Path, reconciled: Reconcile) -> None:
    """The entries from the first part of the oldest one on are there: nothing of it is unknown."""
    tree = Tree(tmp_path).fill(2).fill(3, finish=False)
    for ingest in tree.ingests:
        oldest = min(ingest.head.state.unfinished.values())
        assert oldest > 1
        for path in tree.entries(ingest.pid.partition)[:oldest]:
            path.unlink()
    found = reconciled(tree, full=True, repair=True)
    assert What.MARKER_LOST not in {one.what for one in found.findings}
    assert {one.what for one in found.mended} == {What.MARKER_MISSING}
    assert reconciled(tree, full=True).exit_code == 0


def test_records_from_before_max_record_bytes_was_lowered_are_right_where_they_are(
    tmp_path: Path, reconciled: Reconcile
) -> None:
    padded = {"padding": "x" * 2000}
    tree = Tree(tmp_path)
    tree.ingests[0].feed([json.dumps({"ts": FIRST_HOUR + n, **padded}).encode() for n in (1, 2)])
    tree.ingests[0].decide(everything=True)
    tree.config = configuration(tree.url, tree.spool, max_record_bytes="1KiB")
    assert reconciled(tree, full=True, deep=True).findings == []


def test_a_run_of_some_hours_leaves_what_is_known_of_earlier_ones(tree: Tree, reconciled: Reconcile) -> None:
    tree.finished(0).unlink()
    assert What.FILE_MISSING in {one.what for one in reconciled(tree).findings}
    for number in range(2):
        for path in tree.entries(number)[:5]:
            path.unlink()
    some = reconciled(tree, full=True, since_ms=FIRST_HOUR + 2 * HOUR_MS)
    assert What.FILE_MISSING not in {one.what for one in some.findings}
    assert What.FILE_MISSING in {one.what for one in reconciled(tree).findings}


def test_hours_before_proof_begins_are_neither_wrong_nor_made_up(tree: Tree, reconciled: Reconcile) -> None:
    """Old entries are trimmed, and somebody keeps data for a shorter time than that: an empty hour with a marker
    would be a lie.
    """
    for number in range(2):
        for path in tree.entries(number)[:5]:
            path.unlink()
    shutil.rmtree(tree.path(tree.hour(0)))
    tree.marker(1).unlink()
    found = reconciled(tree, full=True, repair=True)
    assert [(one.what, one.hour) for one in found.findings] == [(What.MARKER_LOST, "2026-11-22T08")]
    assert not tree.path(tree.hour(0)).exists()
    assert not tree.marker(1).exists()
    assert found.topics["app"].gone == 1
    # and later runs do not know better
    assert [one.what for one in reconciled(tree, repair=True).findings] == [What.MARKER_LOST]


def test_entries_trimmed_since_the_last_run_are_only_a_note(tree: Tree, reconciled: Reconcile) -> None:
    assert reconciled(tree).exit_code == 0
    for ingest in tree.ingests:
        tree._fill_hour(ingest, FIRST_HOUR + 5 * HOUR_MS, 12, late=True, bad=False)
        ingest.feed([FIRST_HOUR + 7 * HOUR_MS])
        ingest.decide(everything=True)
    tree.finish()
    for ingest in tree.ingests:
        ingest.feed([FIRST_HOUR + 7 * HOUR_MS + 1])
        ingest.decide(everything=True)
    for number in range(2):
        for path in tree.entries(number)[:-1]:
            path.unlink()
    found = reconciled(tree)
    assert {one.what for one in found.findings} == {What.TRIMMED_UNSEEN}
    assert found.exit_code == 0


def test_late_files_of_trimmed_entries_are_not_strangers(tree: Tree, reconciled: Reconcile) -> None:
    for number in range(2):
        for path in tree.entries(number)[:-1]:
            path.unlink()
    assert reconciled(tree, full=True, deep=True).findings == []
    assert list(tree.path(tree.hour(0, Kind.LATE)).iterdir())


def test_an_hour_that_an_operator_revealed_is_neither_wrong_nor_marked(tmp_path: Path, reconciled: Reconcile) -> None:
    """A partition that is stopped holds it back; then it comes after all."""
    tree = Tree(tmp_path)
    for ingest in tree.ingests:
        tree._fill_hour(ingest, FIRST_HOUR, 12, late=False, bad=False)
    tree.ingests[0].feed([FIRST_HOUR + HOUR_MS + 120_000])
    tree.ingests[0].decide()
    assert reveal(tree.store, "app", tree.topic_id, FIRST_HOUR).state == "revealed"
    for _ in range(2):
        assert reconciled(tree, deep=True).findings == []
    tree.ingests[1].feed([FIRST_HOUR + HOUR_MS + 120_000])
    tree.ingests[1].decide()
    assert [one.what for one in reconciled(tree).findings] == [What.MARKER_MISSING]
    assert reconciled(tree, repair=True).exit_code == 11
    assert tree.marker(0).exists()
    assert not tree.path(f"{tree.hour(0)}/{layout.INCOMPLETE}").exists()
    assert reconciled(tree, full=True, deep=True).findings == []


def test_an_entry_where_retention_had_made_room_is_a_note(tree: Tree, reconciled: Reconcile) -> None:
    for path in tree.entries()[:5]:
        data = path.read_bytes()
        path.unlink()
    tree.entry(2).write_bytes(data)
    found = reconciled(tree, full=True)
    assert [(one.what, one.path) for one in found.findings] == [
        (What.ENTRY_STRAY, str(tree.entry(2).relative_to(tree.store.root)))
    ]
    assert found.exit_code == 0
