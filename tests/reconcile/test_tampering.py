"""What somebody does to the tree by hand is found and named, and nothing else is (H19)."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from logflume import commit
from logflume.backfill import amend
from logflume.core import layout
from logflume.finish import plan as plans
from logflume.model import Kind
from logflume.reconcile import checkpoint
from logflume.reconcile.findings import What
from logflume.spool.encoders import encoder
from tests.reconcile.conftest import Reconcile
from tests.reconcile.tree import FIRST_HOUR, Tree

Tamper = Callable[[Tree], Path]
#: seconds that a file is made older by
LONG_AGO = 1_600_000_000


def first_of(tree: Tree, n: int, kind: Kind) -> Path:
    return min(tree.path(tree.hour(n, kind)).glob("*"))


def delete_finished(tree: Tree) -> Path:
    path = tree.finished(1)
    path.unlink()
    return path


def delete_late(tree: Tree) -> Path:
    path = first_of(tree, 1, Kind.LATE)
    path.unlink()
    return path


def delete_quarantined(tree: Tree) -> Path:
    path = first_of(tree, 2, Kind.QUARANTINE)
    path.unlink()
    return path


def truncate_finished(tree: Tree) -> Path:
    path = tree.finished(2)
    os.truncate(path, path.stat().st_size - 1)
    return path


def grow_late(tree: Tree) -> Path:
    path = first_of(tree, 0, Kind.LATE)
    path.write_bytes(path.read_bytes() + b"x")
    return path


def add_file(tree: Tree) -> Path:
    path = tree.path(f"{tree.hour(1)}/copy-of-mine.json.gz")
    path.write_bytes(gzip.compress(b"{}\n"))
    return path


def add_hidden_part(tree: Tree) -> Path:
    """One that looks like ours, with an offset that is decided for another file."""
    path = tree.path(f"{tree.hour(1)}/_p00000-0000000000000000001.json.gz")
    path.write_bytes(b"x")
    return path


def add_late_file(tree: Tree) -> Path:
    path = tree.path(f"{tree.hour(1, Kind.LATE)}/p00001-0000000000000000003.json.gz")
    path.write_bytes(b"x")
    return path


def add_hour(tree: Tree) -> Path:
    path = tree.path(f"{tree.hour(9)}/app-00000-of-00001.json.gz")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    return path


def remove_entry(tree: Tree) -> Path:
    path = tree.entry(4)
    path.unlink()
    return path


def edit_entry(tree: Tree) -> Path:
    path = tree.entry(5)
    path.write_bytes(path.read_bytes().replace(b'"count":', b'"count": ', 1))
    return path


def unreadable_entry(tree: Tree) -> Path:
    """As with a corrupt block: the store answers, and this file cannot be read."""
    path = tree.entry(5)
    path.unlink()
    path.mkdir()
    return path


def edit_marker(tree: Tree) -> Path:
    path = tree.marker(1)
    path.write_bytes(path.read_bytes().replace(b'"records": ', b'"records": 1', 1))
    return path


def marker_without_a_part(tree: Tree) -> Path:
    """Consistent in itself, and of a smaller file that is there, too: only the ledger knows better."""
    path, body = tree.marker(1), json.loads(tree.marker(1).read_bytes())
    gone = body["files"][0]["segments"].pop()
    data = plans.encode(plans.decode(json.dumps(body).encode()))
    path.write_bytes(data)
    os.truncate(tree.finished(1), tree.finished(1).stat().st_size - gone["bytes"])
    return path


def marker_of_another_hour(tree: Tree) -> Path:
    shutil.copy(tree.marker(0), tree.marker(2))
    return tree.marker(2)


def early_marker(tree: Tree) -> Path:
    """Of an hour that is still open."""
    body = json.loads(tree.marker(1).read_bytes())
    body |= {"start_ms": FIRST_HOUR + 4 * 3_600_000, "files": [], "partitions": {}}
    path = tree.marker(4)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(plans.encode(plans.decode(json.dumps(body).encode())))
    return path


def damage_topic_file(tree: Tree) -> Path:
    path = tree.path(layout.topic_path("app", tree.topic_id))
    path.write_bytes(b"{}")
    return path


def remove_marker(tree: Tree) -> Path:
    tree.marker(2).unlink()
    return tree.marker(2)


def left_upload(tree: Tree) -> Path:
    path = tree.path(layout.tmp_path(tree.pid(), "0000000000000000007-dead"))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    os.utime(path, (LONG_AGO, LONG_AGO))
    return path


def left_plan(tree: Tree) -> Path:
    hour = FIRST_HOUR + 3_600_000
    path = tree.path(layout.plan_path("app", tree.topic_id, hour, tree.topic.window_ms))
    path.write_bytes(tree.marker(1).read_bytes())
    os.utime(path, (LONG_AGO, LONG_AGO))
    return path


def left_part(tree: Tree) -> Path:
    """As on file://, where a crash between link and unlink lets a part come back after its merge."""
    body = json.loads(tree.marker(1).read_bytes())
    path = tree.path(body["files"][0]["segments"][0]["path"])
    path.write_bytes(b"x")
    return path


def left_spool(tree: Tree) -> Path:
    path = tree.spool / "w0-0123456789ab"
    path.mkdir()
    (path / "lock").touch()
    return path


CASES: list[tuple[Tamper, set[What]]] = [
    (delete_finished, {What.FILE_MISSING}),
    (delete_late, {What.FILE_MISSING}),
    (delete_quarantined, {What.FILE_MISSING}),
    (truncate_finished, {What.FILE_LENGTH}),
    (grow_late, {What.FILE_LENGTH}),
    (add_file, {What.FILE_UNKNOWN}),
    (add_hidden_part, {What.FILE_UNKNOWN}),
    (add_late_file, {What.FILE_UNKNOWN}),
    (add_hour, {What.FILE_UNKNOWN}),
    (remove_entry, {What.ENTRY_MISSING}),
    (edit_entry, {What.ENTRY_DAMAGED}),
    (unreadable_entry, {What.ENTRY_DAMAGED}),
    (edit_marker, {What.MARKER_WRONG}),
    (marker_without_a_part, {What.MARKER_WRONG}),
    (marker_of_another_hour, {What.MARKER_WRONG}),
    (early_marker, {What.MARKER_EARLY}),
    (damage_topic_file, {What.TOPIC_FILE}),
    (remove_marker, {What.MARKER_MISSING}),
    (left_upload, {What.TMP_LEFT}),
    (left_plan, {What.PLAN_LEFT}),
    (left_part, {What.PART_LEFT}),
    (left_spool, {What.SPOOL_LEFT}),
]


@pytest.mark.parametrize(("tamper", "expected"), CASES, ids=lambda case: getattr(case, "__name__", ""))
def test_what_was_tampered_with_is_named_and_nothing_else(
    tree: Tree, reconciled: Reconcile, tamper: Tamper, expected: set[What]
) -> None:
    assert reconciled(tree).findings == []
    path = tamper(tree)
    found = reconciled(tree, full=True)
    assert {one.what for one in found.findings} == expected
    named = {str(tree.path(one.path)) if not one.path.startswith("/") else one.path for one in found.findings}
    assert named == {str(path)}
    assert found.exit_code == (10 if found.findings[0].mend.value == "repair" else 9)


@pytest.mark.parametrize(("tamper", "expected"), CASES, ids=lambda case: getattr(case, "__name__", ""))
def test_it_is_said_again_by_runs_that_read_only_what_is_new(
    tree: Tree, reconciled: Reconcile, tamper: Tamper, expected: set[What]
) -> None:
    path = tamper(tree)
    for options in ({"full": True}, {}, {}):
        found = reconciled(tree, **options)
        if tamper in (left_part, edit_marker) or found.findings:
            named = {str(tree.path(one.path)) if not one.path.startswith("/") else one.path for one in found.findings}
            assert named == {str(path)}
        assert {one.what for one in found.findings} == expected


def test_a_flipped_byte_is_found_by_reading_the_file(tree: Tree, reconciled: Reconcile) -> None:
    path = tree.finished(1)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert reconciled(tree, full=True).findings == []
    found = reconciled(tree, full=True, deep=True)
    assert [(one.what, str(tree.path(one.path))) for one in found.findings] == [(What.FILE_DAMAGED, str(path))]
    # one segment of four: only its offsets have to be read again
    assert len(found.findings[0].ranges) == 1
    assert found.commands == ["logflume backfill -c logflume.toml --topic app --hours 2026-11-22T08 --repair"]


def test_a_flipped_byte_in_a_part_of_an_open_hour_is_found(tmp_path: Path, reconciled: Reconcile) -> None:
    tree = Tree(tmp_path).fill(2)
    tree.ingests[0].decide(everything=True)
    path = next(tree.path(tree.hour(2)).glob("_p00000*"))
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    found = reconciled(tree, deep=True)
    assert [(one.what, str(tree.path(one.path))) for one in found.findings] == [(What.FILE_DAMAGED, str(path))]


def test_records_of_another_hour_are_found_although_all_check_sums_fit(
    tmp_path: Path, reconciled: Reconcile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a program with a fault would write them: the entry vouches for bytes that are in the wrong place."""
    tree = Tree(tmp_path, partitions=1)
    ingest = tree.ingests[0]
    ingest.feed([FIRST_HOUR + 1000, FIRST_HOUR + 2000])
    serial = next(iter(ingest.lines))
    ingest.lines[serial] = [b'{"ts":%d}' % (FIRST_HOUR + 3_600_000), ingest.lines[serial][1]]
    ingest.decide(everything=True)
    found = reconciled(tree, deep=True)
    assert [one.what for one in found.findings] == [What.FILE_CONTENT]
    assert "another hour" in found.findings[0].detail


def test_a_wrong_number_of_lines_is_found(tmp_path: Path, reconciled: Reconcile) -> None:
    tree = Tree(tmp_path, partitions=1)
    ingest = tree.ingests[0]
    ingest.feed([FIRST_HOUR + 1000, FIRST_HOUR + 2000])
    decision = ingest.cut(everything=True)
    for file in decision.files.values():
        data = encoder("gzip")(b'{"ts":%d}\n' % (FIRST_HOUR + 1000))
        file.path.write_bytes(data)
        object.__setattr__(file, "size", len(data))
        object.__setattr__(file, "sha256", hashlib.sha256(data).hexdigest())
    commit.decide(tree.store, decision, ingest.owner)
    found = reconciled(tree, deep=True)
    assert [one.what for one in found.findings] == [What.FILE_CONTENT]
    assert "1 whole lines instead of 2" in found.findings[0].detail


def test_the_newest_entry_cannot_vanish_unseen(tree: Tree, reconciled: Reconcile) -> None:
    """Nothing follows it, so only an earlier run knows that it was there."""
    assert reconciled(tree).exit_code == 0
    tree.entries()[-1].unlink()
    for _ in range(2):
        found = reconciled(tree)
        assert What.CHAIN_ROLLED_BACK in {one.what for one in found.findings}
        assert found.exit_code == 9


def test_a_ledger_that_is_gone_is_missed(tree: Tree, reconciled: Reconcile) -> None:
    assert reconciled(tree).exit_code == 0
    shutil.rmtree(tree.path(layout.topic_directory("app", tree.topic_id)))
    for full in (False, True, False):
        (found,) = reconciled(tree, full=full).findings
        assert (found.what, checkpoint.DIRECTORY in found.hint) == (What.LEDGER_GONE, True)
    # what its hint says
    shutil.rmtree(tree.path(checkpoint.DIRECTORY))
    shutil.rmtree(tree.path("app"))
    assert reconciled(tree).findings == []


def test_ledgers_that_are_gone_with_their_directory_are_missed(tree: Tree, reconciled: Reconcile) -> None:
    """The checkpoint was in it, too: only the hours tell."""
    assert reconciled(tree).exit_code == 0
    shutil.rmtree(tree.path(layout.LEDGER_ROOT))
    for full in (False, True, False):
        found = reconciled(tree, full=full)
        assert [(one.what, one.path) for one in found.findings] == [(What.LEDGER_GONE, "_logflume/app")]
        assert found.exit_code == 9


def test_the_entry_of_the_checkpoint_may_be_unreadable(tree: Tree, reconciled: Reconcile) -> None:
    assert reconciled(tree).exit_code == 0
    path = tree.entries()[-1]
    path.unlink()
    path.mkdir()
    for _ in range(2):
        found = reconciled(tree).findings
        assert str(path) in {str(tree.path(one.path)) for one in found if one.what is What.ENTRY_DAMAGED}


def test_a_hole_is_not_the_end_of_the_chain(tree: Tree, reconciled: Reconcile) -> None:
    """Two entries in a row are gone that came after the checkpoint, and what came after them is judged all the same."""
    assert reconciled(tree).findings == []
    for _ in range(4):
        tree.ingests[0].feed([tree.ingests[0].now + 1000])
        tree.ingests[0].decide(everything=True)
    newest = tree.ingests[0].head.entry
    gone = [tree.entry(newest.seq - 2), tree.entry(newest.seq - 1)]
    part = tree.path(newest.parts[0].path)
    for path in (*gone, part):
        path.unlink()
    for full in (False, False, True):
        found = reconciled(tree, full=full).findings
        assert {(one.what, str(tree.path(one.path))) for one in found} == {
            *((What.ENTRY_MISSING, str(path)) for path in gone),
            (What.FILE_MISSING, str(part)),
        }


def test_what_backfill_made_again_has_its_own_check_sum(tree: Tree, reconciled: Reconcile) -> None:
    path = first_of(tree, 1, Kind.QUARANTINE)
    data = bytearray(path.read_bytes())
    data[4] ^= 1  # the time in gzip's header: the same lines, in other bytes
    path.write_bytes(data)
    assert [one.what for one in reconciled(tree, full=True, deep=True).findings] == [What.FILE_DAMAGED]
    relative = str(path.relative_to(tree.store.root))
    was = next(
        part
        for ingest in tree.ingests
        for seq in range(ingest.head.entry.seq + 1)
        for part in commit.read_entry(tree.store, ingest.pid, seq).entry.parts
        if part.path == relative
    )
    amend.put(tree.store, "app", tree.topic_id, replace(was, sha256=hashlib.sha256(data).hexdigest()), was, 1)
    assert reconciled(tree, full=True, deep=True).findings == []
