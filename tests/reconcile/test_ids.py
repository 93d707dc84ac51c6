"""Reinjected files are proved like others, and what an earlier id of a topic left open is told (K10)."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from logflume.cli import main
from logflume.commit import Owner
from logflume.core import layout
from logflume.finish.reveal import reveal
from logflume.model import HOUR_MS, Kind
from logflume.quarantine import reinject
from logflume.reconcile.accept import accept_topic
from logflume.reconcile.findings import What
from logflume.store.local import LocalStore
from tests.cli import files
from tests.compact.faults import Died, dying
from tests.quarantine.test_quarantine import again
from tests.quarantine.test_quarantine import written as with_bad_times
from tests.reconcile.conftest import Reconcile
from tests.reconcile.test_crash import TOPIC_TABLE
from tests.reconcile.test_repair import LONG_AGO
from tests.reconcile.tree import FIRST_HOUR, TOPIC, TOPIC_ID, Tree, flip

NEW_ID = "id-after-it"


# -- reinjected -----------------------------------------------------------------------------------


def test_a_reinjected_file_that_is_gone_short_or_damaged_is_found(tmp_path: Path, reconciled: Reconcile) -> None:
    tree = with_bad_times(tmp_path)
    gone, short, damaged, _ = again(tree.store, tree).files
    assert reconciled(tree, full=True, deep=True).findings == []
    tree.path(gone).unlink()
    tree.path(short).write_bytes(tree.path(short).read_bytes()[:-1])
    flip(tree.path(damaged))
    found = reconciled(tree).findings
    assert {(one.what, one.path) for one in found} == {(What.REINJECTED_WRONG, gone), (What.REINJECTED_WRONG, short)}
    assert "quarantine app --reinject --into" in found[0].hint
    found = reconciled(tree, full=True, deep=True).findings
    assert {one.path for one in found if one.what is What.REINJECTED_WRONG} == {gone, short, damaged}


def test_an_hour_that_somebody_has_removed_as_a_whole_is_no_loss(tmp_path: Path, reconciled: Reconcile) -> None:
    tree = with_bad_times(tmp_path)
    for path in again(tree.store, tree).files:
        tree.path(path).unlink()
    assert reconciled(tree, full=True).findings == []


@pytest.mark.parametrize("at", range(10))
def test_what_a_reinjection_that_died_has_left_is_shown_or_removed(
    tmp_path: Path, reconciled: Reconcile, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _fd: None)
    tree = with_bad_times(tmp_path)
    with pytest.raises(Died):
        again(dying(tree.store, at), tree)
    for path in tree.path(layout.reinjections_directory(TOPIC, TOPIC_ID)).rglob("*"):
        os.utime(path, (LONG_AGO, LONG_AGO))
    decided = reinject.newest(tree.store, TOPIC, TOPIC_ID)
    reconciled(tree, repair=True)
    assert reconciled(tree, full=True, deep=True).findings == []
    left = list(tree.path(f"{layout.reinjections_directory(TOPIC, TOPIC_ID)}/tmp").glob("*"))
    assert left == []
    assert len(list(tree.path("_late").rglob("rp*"))) == (0 if decided is None else 4)


# -- re-created topics ----------------------------------------------------------------------------


def followed(base: Path) -> tuple[Tree, Tree]:
    """A topic whose last hour is open, and the one that was re-created after it."""
    old = Tree(base).fill(2)
    for ingest in old.ingests:
        ingest.decide(everything=True)  # what closed the second hour is of the third one
    owner = Owner("operator", lambda: time.time_ns() // 1_000_000, old.topic.hash)
    accept_topic(old.store, TOPIC, NEW_ID, owner, "re-created")
    new = Tree(base, topic_id=NEW_ID)
    for ingest in new.ingests:
        # late for the old one's hours, with the same offsets
        ingest.feed([FIRST_HOUR + 1000, b"bad", FIRST_HOUR + 4 * HOUR_MS])
        ingest.decide(everything=True)
    return old, new


def test_an_hour_that_an_earlier_id_left_open_is_stranded_until_it_is_revealed(
    tmp_path: Path, reconciled: Reconcile
) -> None:
    old, _ = followed(tmp_path)
    found = reconciled(old, full=True).findings
    assert [(one.what, one.hour) for one in found] == [(What.HOUR_STRANDED, "2026-11-22T09")]
    assert f"logflume reveal app 2026-11-22T09 --topic-id {TOPIC_ID}" in found[0].hint
    assert [one.what for one in reconciled(old).findings] == [What.HOUR_STRANDED]  # from the checkpoint, too
    path = files.write(tmp_path, root=old.url, topics=TOPIC_TABLE)
    command = ["reveal", TOPIC, "2026-11-22T09", "-c", path, "--topic-id", TOPIC_ID, "--json"]
    done = CliRunner().invoke(main, command, catch_exceptions=False)
    assert (done.exit_code, json.loads(done.stdout)["records"]) == (0, 2)
    assert reconciled(old, full=True).findings == []


def test_an_hour_of_the_id_that_goes_on_is_not_stranded(tmp_path: Path, reconciled: Reconcile) -> None:
    old, _ = followed(tmp_path)
    hours = {one.hour for one in reconciled(old, full=True).findings}
    assert "2026-11-22T11" not in hours
    with pytest.raises(Exception, match="not held back"):
        reveal(LocalStore(old.store.root), TOPIC, NEW_ID, FIRST_HOUR + 4 * HOUR_MS)


def test_late_and_bad_records_of_two_ids_lie_beside_each_other(tmp_path: Path) -> None:
    old, new = followed(tmp_path)
    for kind in (Kind.LATE, Kind.QUARANTINE):
        names = [path.name for path in old.path(layout.tree(kind, TOPIC)).rglob("p*")]
        marks = {name.split(".")[1] for name in names}
        assert marks == {layout.id_mark(old.topic_id), layout.id_mark(new.topic_id)}
