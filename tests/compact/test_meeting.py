"""Several runs at one directory, one of them so slow that the others have compacted it again meanwhile."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from logflume.compact import record as records
from logflume.compact.carry import carry_out
from logflume.compact.record import Place, Record, Spot
from logflume.compact.run import compact
from logflume.errors import LogflumeError
from logflume.model import HOUR_MS
from logflume.reconcile.findings import What
from logflume.store import Store
from logflume.store.local import LocalStore
from tests.compact.faults import CHANGES, OPENED, Died, copies, dying
from tests.compact.test_compact import check_marker, job, lines, shown, written
from tests.reconcile.conftest import Reconcile, quick_looks, reconciled
from tests.reconcile.tree import FIRST_HOUR, TOPIC, TOPIC_ID, Tree

__all__ = ["quick_looks", "reconciled"]  # fixtures

TREES = pytest.mark.parametrize("place", [Place.HOUR, Place.LATE])


class Meets:
    """A store whose caller is stopped before its change number ``at`` for as long as ``others`` take."""

    def __init__(self, store: Store, at: int, others: Callable[[], object]) -> None:
        self._store, self._left, self._others = store, at, others

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        return self._wrapped(found) if name in CHANGES else found

    put_if_absent = Store.put_if_absent

    @property
    def met(self) -> bool:
        return self._left < 0

    def _wrapped(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def change(*args: Any) -> Any:
            self._left -= 1
            if self._left == -1:
                self._others()
            return call(*args)

        return change


def many(base: Path, place: Place) -> Tree:
    """Four files and more in this place."""
    tree = written(base, place)
    come_late(tree)
    for ingest in tree.ingests:
        ingest.feed([ingest.now])
        ingest.decide(everything=True)
    return tree


def meets(store: Store, place: Place, at: int) -> Meets:
    """The others complete what its caller has begun, and begin and complete the next one."""

    def others() -> None:
        for files in (2, 1):
            compact(store, job(place, files=files))

    return Meets(store, at, others)


def check_one_file(store: Store, place: Place, before: list[str]) -> None:
    assert lines(store, place) == before
    assert len(shown(store, place)) == 1
    if place is Place.HOUR:
        check_marker(store)


def record_of(store: Store, place: Place, number: int = 0) -> Record | None:
    return records.read(store, Spot(TOPIC, TOPIC_ID, place, FIRST_HOUR, HOUR_MS), number)


@OPENED
@TREES
def test_a_record_with_a_later_one_after_it_is_not_carried_out_again(
    tmp_path: Path, place: Place, opened: type[LocalStore]
) -> None:
    tree = many(tmp_path, place)
    store, before = opened(tree.store.root), lines(tree.store, place)
    for files in (2, 1):
        compact(store, job(place, files=files))
    after = shown(store, place)
    first = record_of(store, place)
    assert first is not None
    assert not carry_out(store, first)
    assert shown(store, place) == after
    assert lines(store, place) == before
    if place is Place.HOUR:
        check_marker(store)


@OPENED
@TREES
def test_a_run_that_is_slow_at_any_step_does_not_undo_what_others_did_meanwhile(
    tmp_path: Path, place: Place, opened: type[LocalStore]
) -> None:
    tree = many(tmp_path / "a", place)
    before = lines(tree.store, place)
    make = copies(tree.store, tmp_path, opened)
    for at in itertools.count():
        store = make()
        slow = meets(store, place, at)
        with suppress(LogflumeError):
            compact(slow, job(place, files=2))
        if not slow.met:
            assert at > 8
            return
        assert lines(store, place) == before
        compact(store, job(place, files=1))
        check_one_file(store, place, before)


@OPENED
@TREES
def test_a_run_that_dies_slow_leaves_nothing_that_the_next_one_cannot_complete(
    tmp_path: Path, place: Place, opened: type[LocalStore]
) -> None:
    """As above, and it dies one or two changes after the others are done."""
    tree = many(tmp_path / "a", place)
    before = lines(tree.store, place)
    make = copies(tree.store, tmp_path, opened)
    for at in itertools.count():
        for dies in (1, 2):
            store = make()
            slow = meets(store, place, at)
            with suppress(LogflumeError, Died):
                compact(dying(slow, at + dies), job(place, files=2))
            if not slow.met:
                return
            assert [one.error for one in compact(store, job(place, files=1)) if one.error] == []
            check_one_file(store, place, before)


def test_two_runs_that_complete_the_same_one_show_late_records_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = written(tmp_path, Place.LATE)
    store = tree.store
    for at in itertools.count(1):
        with suppress(Died):
            compact(dying(store, at), job(Place.LATE))
        if record_of(store, Place.LATE) is not None:
            break
    come_late(tree)
    before = lines(store, Place.LATE)
    publish = store.publish
    met: list[str] = []

    def slow(tmp: str, final: str) -> None:
        if not met and "-c000000-" in final:
            met.append(final)
            compact(store, job(Place.LATE))
        publish(tmp, final)

    monkeypatch.setattr(store, "publish", slow)
    compact(store, job(Place.LATE))
    assert met
    assert lines(store, Place.LATE) == before


def come_late(tree: Tree) -> None:
    for ingest in tree.ingests:
        for _ in range(2):
            ingest.feed([FIRST_HOUR + 9000])
            ingest.decide(everything=True)


def test_what_was_copied_stays_until_it_is_shown(tmp_path: Path, reconciled: Reconcile) -> None:
    """Also where the run that copied it died, and reconcile removes what others have left."""
    tree = written(tmp_path / "a", Place.LATE)
    before = lines(tree.store, Place.LATE)
    original, waiting = tree.store, 0
    make = copies(original, tmp_path)
    for at in range(12):
        tree.store = make()
        with suppress(Died):
            compact(dying(tree.store, at), job(Place.LATE))
        record = record_of(tree.store, Place.LATE)
        if record is not None and all(tree.path(made.tmp).exists() for made in record.made):
            waiting += 1
            assert What.TMP_LEFT not in {one.what for one in reconciled(tree, full=True).findings}
        reconciled(tree, full=True, repair=True)
        assert [one.error for one in compact(tree.store, job(Place.LATE)) if one.error] == []
        assert lines(tree.store, Place.LATE) == before
        record = record_of(tree.store, Place.LATE)
        assert record is not None
        assert not any(tree.path(made.tmp).exists() for made in record.made)
    assert waiting >= 2
