"""Files that are too large are cut between their parts; every offset stays where a record says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from logflume.compact import record as records
from logflume.compact.record import Place
from logflume.compact.run import compact
from logflume.core import layout
from logflume.errors import Refused
from logflume.locate.run import locate_offset
from logflume.model import HOUR_MS
from logflume.store import Store
from tests.compact.faults import Died, copies, die_everywhere, dying
from tests.compact.test_compact import check_files, check_marker, job, lines, only, shown, written
from tests.reconcile.conftest import Reconcile, quick_looks, reconciled
from tests.reconcile.tree import FIRST_HOUR, Tree

__all__ = ["quick_looks", "reconciled"]  # fixtures


def merged(base: Path, place: Place) -> Tree:
    """The first hour's files of this place are one."""
    tree = written(base, place)
    for ingest in tree.ingests:
        # a second round of late and bad records in the first hour
        ingest.feed([FIRST_HOUR + 5000, b"nor this", ingest.now])
        ingest.decide(everything=True)
        ingest.feed([ingest.now])
        ingest.decide(everything=True)
    assert only(compact(tree.store, job(place)), place).after == 1
    return tree


@pytest.mark.parametrize("place", Place)
def test_one_file_becomes_as_many_as_are_asked_for(tmp_path: Path, place: Place, reconciled: Reconcile) -> None:
    tree = merged(tmp_path, place)
    before, others = lines(tree.store, place), len(shown(tree.store, place)) - 1
    wish = replace(job(place, files=2), until_ms=FIRST_HOUR + HOUR_MS)
    one = only(compact(tree.store, wish), place)
    assert (one.state, one.before, one.after, one.copied) == ("compacted", 1, 2, True)
    assert len(shown(tree.store, place)) == 2 + others
    assert lines(tree.store, place) == before
    assert compact(tree.store, wish) == []
    record = records.newest(tree.store, one.spot)
    assert record is not None
    assert records.decode(records.encode(record)) == record
    assert reconciled(tree, full=True, deep=True).findings == []
    if place is Place.HOUR:
        check_marker(tree.store)
    for ingest in tree.ingests:
        for offset in ingest.fates:
            answer = locate_offset(tree.store, ingest.pid, offset)
            if offset < ingest.head.state.committed:
                assert answer.place is not None
                assert answer.place.start + answer.place.size <= tree.path(answer.place.path).stat().st_size
    again = only(compact(tree.store, replace(wish, wish=job(place).wish)), place)
    assert (again.before, again.after) == (2, 1)
    assert lines(tree.store, place) == before


def test_files_are_cut_to_a_size_and_stay_so(tmp_path: Path) -> None:
    tree = merged(tmp_path, Place.HOUR)
    before = lines(tree.store, Place.HOUR)
    assert compact(tree.store, job(Place.HOUR, target_bytes=300)) == []  # only where it is asked for
    wish = job(Place.HOUR, target_bytes=300, split=True)
    assert only(compact(tree.store, wish), Place.HOUR).after > 1
    sizes = [path.stat().st_size for path in tree.path(tree.hour(0)).glob("app-*")]
    assert all(150 <= size <= 450 for size in sizes), sizes
    assert lines(tree.store, Place.HOUR) == before
    assert compact(tree.store, wish) == []
    check_marker(tree.store)


def test_more_files_than_parts_are_refused_and_nothing_changes(tmp_path: Path) -> None:
    tree = merged(tmp_path, Place.HOUR)
    before = tree.snapshot()
    one = only(compact(tree.store, job(Place.HOUR, files=99)), Place.HOUR)
    assert one.state == "failed"
    assert "cannot be cut into 99 files: it is made of 4 parts" in str(one.error)
    assert tree.snapshot() == before


def test_without_room_on_the_local_disk_nothing_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = merged(tmp_path, Place.HOUR)
    before = tree.snapshot()
    monkeypatch.setattr("tempfile.tempdir", "/dev/full")
    one = only(compact(tree.store, job(Place.HOUR, files=2)), Place.HOUR)
    assert isinstance(one.error, Refused)
    assert tree.snapshot() == before


@pytest.mark.parametrize("place", [Place.HOUR, Place.LATE])
def test_a_cut_that_is_killed_anywhere_is_completed_by_the_next_run(tmp_path: Path, place: Place) -> None:
    tree = merged(tmp_path / "a", place)
    before = lines(tree.store, place)
    wish = replace(job(place, files=2), until_ms=FIRST_HOUR + HOUR_MS)

    def check(store: Store) -> None:
        assert lines(store, place) == before
        assert len(shown(store, place)) == 2
        if place is Place.HOUR:
            check_marker(store)

    def run(store: Store) -> None:
        for one in compact(store, wish):
            assert one.error is None

    assert die_everywhere(copies(tree.store, tmp_path), run, check, afters=(False,)) >= 6


@pytest.mark.parametrize("place", [Place.HOUR, Place.LATE])
def test_at_no_step_of_a_cut_is_a_record_shown_twice_or_short_beside_a_marker(tmp_path: Path, place: Place) -> None:
    tree = merged(tmp_path / "a", place)
    before = lines(tree.store, place)
    make, at = copies(tree.store, tmp_path), 0
    wish = replace(job(place, files=2), until_ms=FIRST_HOUR + HOUR_MS)
    while True:
        store = make()
        try:
            compact(dying(store, at), wish)
        except Died:
            found = lines(store, place)
            assert len(found) == len(set(found))
            if place is Place.HOUR and Path(store.root, tree.hour(0), layout.SUCCESS).exists():
                check_files(store)
                assert found == before
        else:
            assert at > 6
            return
        at += 1
