"""Small files become large ones; at no step is an offset lost or twice, and a second run finds nothing to do."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from logflume.cli import main
from logflume.compact import record as records
from logflume.compact.plan import Wish
from logflume.compact.record import Place, Spot
from logflume.compact.run import Job, Outcome, compact
from logflume.core import layout
from logflume.errors import LogflumeError
from logflume.finish import plan as plans
from logflume.finish import run as finishing
from logflume.model import HOUR_MS, Kind
from logflume.store import Store
from logflume.store.local import LocalStore
from tests.cli import files
from tests.compact.faults import OPENED, Concats, Died, Refuses, copies, die_everywhere, dying
from tests.reconcile.tree import FIRST_HOUR, TOPIC, TOPIC_ID, Tree

PLACES = {
    Place.HOUR: layout.hour_path(TOPIC, FIRST_HOUR, HOUR_MS),
    Place.APPENDED: layout.hour_path(TOPIC, FIRST_HOUR, HOUR_MS),
    Place.LATE: layout.hour_path(TOPIC, FIRST_HOUR, HOUR_MS, Kind.LATE),
    Place.QUARANTINE: layout.hour_path(TOPIC, FIRST_HOUR, HOUR_MS, Kind.QUARANTINE),
}
SETTINGS: dict[Place, dict[str, Any]] = {Place.HOUR: {"reveal": "early"}, Place.APPENDED: {"late": "append"}}


def written(base: Path, place: Place) -> Tree:
    """A tree whose first hour has several small files in this place, and one more entry in each chain."""
    tree = Tree(base, settings=SETTINGS.get(place, {})).fill(3)
    for ingest in tree.ingests:
        ingest.feed([ingest.now])
        ingest.decide(everything=True)
    return tree


def job(*places: Place, **wish: Any) -> Job:
    return Job(TOPIC, TOPIC_ID, HOUR_MS, Wish(**{"target_bytes": 1 << 30, **wish}), places)


def shown(store: Store, place: Place) -> dict[str, list[str]]:
    """The lines of each file that a reader sees in the first hour."""
    directory = Path(f"{store.root}/{PLACES[place]}")
    return {
        path.name: gzip.decompress(path.read_bytes()).decode().splitlines()
        for path in sorted(directory.iterdir())
        if not path.name.startswith("_")
    }


def lines(store: Store, place: Place) -> list[str]:
    return sorted(line for found in shown(store, place).values() for line in found)


def only(outcomes: list[Outcome], place: Place) -> Outcome:
    return next(one for one in outcomes if one.spot.directory == PLACES[place])


def check_marker(store: Store) -> None:
    check_files(store)
    assert list(Path(f"{store.root}/_logflume/{TOPIC}/{TOPIC_ID}/plans").glob("*")) == []


def check_files(store: Store) -> None:
    """``_SUCCESS`` names the files that are there."""
    directory = Path(f"{store.root}/{PLACES[Place.HOUR]}")
    manifest = plans.decode((directory / layout.SUCCESS).read_bytes())
    assert {file.name: file.size for file in manifest.files} == {
        path.name: path.stat().st_size for path in directory.iterdir() if not path.name.startswith("_")
    }


@pytest.mark.parametrize("place", Place)
def test_small_files_become_one_with_the_same_records(tmp_path: Path, place: Place) -> None:
    tree = written(tmp_path, place)
    before, files = lines(tree.store, place), len(shown(tree.store, place))
    one = only(compact(tree.store, job(place)), place)
    count = 2 if place is Place.APPENDED else 1  # the hour's own file is another
    assert (one.state, one.before, one.after) == ("compacted", files - count + 1, 1)
    assert len(shown(tree.store, place)) == count
    assert lines(tree.store, place) == before
    assert compact(tree.store, job(place)) == []
    if place is Place.HOUR:
        check_marker(tree.store)


@pytest.mark.parametrize("place", Place)
def test_the_record_names_every_part_of_what_it_made(tmp_path: Path, place: Place) -> None:
    tree = written(tmp_path, place)
    compact(tree.store, job(place))
    record = records.newest(tree.store, Spot(TOPIC, TOPIC_ID, place, FIRST_HOUR, HOUR_MS))
    assert record is not None
    assert records.decode(records.encode(record)) == record
    (made,) = record.made
    kind = {Place.HOUR: Kind.HOUR, Place.QUARANTINE: Kind.QUARANTINE}.get(place, Kind.LATE)
    fates = [
        ingest.pid.partition * 1000 + offset
        for ingest in tree.ingests
        for offset, fate in ingest.fates.items()
        if fate == (kind, FIRST_HOUR)
    ]
    named = [
        part_of(part.path) * 1000 + offset
        for source in made.sources
        for part in source.parts
        for offset in part.offsets
    ]
    assert sorted(named) == sorted(fates)


def part_of(path: str) -> int:
    name = layout.parse_part_name(path.rsplit("/", 1)[1])
    assert name is not None
    return name.partition


@pytest.mark.parametrize("count", [1, 2, 3])
def test_an_exact_number_of_files(tmp_path: Path, count: int) -> None:
    tree = written(tmp_path, Place.HOUR)
    before = lines(tree.store, Place.HOUR)
    compact(tree.store, job(Place.HOUR, files=count))
    assert len(shown(tree.store, Place.HOUR)) == count
    assert lines(tree.store, Place.HOUR) == before
    check_marker(tree.store)


def test_what_came_later_is_compacted_with_what_was_made_before(tmp_path: Path) -> None:
    tree = written(tmp_path, Place.LATE)
    compact(tree.store, job(Place.LATE))
    for _ in range(2):
        tree.ingests[0].feed([FIRST_HOUR + 9_000])
        tree.ingests[0].decide(everything=True)
    before = lines(tree.store, Place.LATE)
    one = only(compact(tree.store, job(Place.LATE)), Place.LATE)
    assert (one.before, one.after) == (2, 1)
    assert len(one.unknown) == 1  # the newest entry's is left alone
    assert lines(tree.store, Place.LATE) == before
    record = records.newest(tree.store, one.spot)
    assert record is not None
    assert record.number == 1


def test_a_new_owner_claims_although_files_of_older_entries_are_merged(tmp_path: Path) -> None:
    tree = written(tmp_path, Place.LATE)
    tree.ingests[0].feed([FIRST_HOUR + 9_000])
    tree.ingests[0].decide(everything=True)
    compact(tree.store, job(*Place))
    again = tree.ingest(0)
    again.feed([FIRST_HOUR + 3 * HOUR_MS + 200_000])
    again.decide()


def test_a_rewrite_copies_single_files_too_and_replaced_ones_go_after_the_grace(tmp_path: Path) -> None:
    tree = Tree(tmp_path).fill(3)
    before = lines(tree.store, Place.HOUR)
    wish = job(Place.HOUR, rewrite=True)
    (first, *_) = compact(tree.store, wish, now_ms=1_000)
    assert (first.state, first.copied, first.before, first.after) == ("compacted", True, 1, 1)
    hidden = list(tree.path(PLACES[Place.HOUR]).glob("_replaced-*"))
    assert len(hidden) == 1
    assert compact(tree.store, wish, now_ms=2_000) == []
    later = only(compact(tree.store, wish, now_ms=1_000 + wish.grace_ms), Place.HOUR)
    assert (later.state, later.removed) == ("cleaned", 1)
    assert not hidden[0].exists()
    assert lines(tree.store, Place.HOUR) == before
    check_marker(tree.store)


def test_what_a_resumed_run_has_just_replaced_is_kept(tmp_path: Path) -> None:
    tree = written(tmp_path / "a", Place.LATE)
    make, wish, kept = copies(tree.store, tmp_path), job(Place.LATE), 0
    for at in range(8):
        store = make()
        with suppress(Died):
            compact(dying(store, at), wish, now_ms=1_000)
        done = only(compact(store, wish, now_ms=1_000 + wish.grace_ms), Place.LATE)
        if done.state == "resumed":
            kept += 1
            assert done.removed == 0
            assert list(Path(store.root, PLACES[Place.LATE]).glob("_replaced-*"))
            assert only(compact(store, wish, now_ms=2_000 + wish.grace_ms), Place.LATE).removed == 2
    assert kept >= 2


def test_hours_without_a_marker_are_left_alone(tmp_path: Path) -> None:
    tree = Tree(tmp_path, settings={"reveal": "early"}).fill(3, finish=False)
    before = tree.snapshot()
    assert compact(tree.store, job(Place.HOUR)) == []
    assert tree.snapshot() == before


def test_a_dry_run_changes_nothing(tmp_path: Path) -> None:
    tree = written(tmp_path, Place.HOUR)
    before = tree.snapshot()
    planned = compact(tree.store, Job(TOPIC, TOPIC_ID, HOUR_MS, Wish(1 << 30), tuple(Place), dry_run=True))
    assert {one.state for one in planned} == {"planned"}
    assert tree.snapshot() == before


def test_a_file_that_was_changed_by_hand_is_not_merged(tmp_path: Path) -> None:
    tree = written(tmp_path, Place.HOUR)
    path = min(tree.path(PLACES[Place.HOUR]).glob("p*"))
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    one = only(compact(tree.store, job(Place.HOUR)), Place.HOUR)
    assert one.state == "failed"
    assert "other bytes" in str(one.error)
    assert (tree.path(PLACES[Place.HOUR]) / layout.SUCCESS).exists()


@pytest.mark.parametrize("opened", [LocalStore, Concats, Refuses], ids=["copying", "concat", "refused"])
@pytest.mark.parametrize("place", [Place.HOUR, Place.LATE])
def test_a_run_that_is_killed_anywhere_is_completed_by_the_next_one(
    tmp_path: Path, place: Place, opened: Callable[[str], Store]
) -> None:
    tree = written(tmp_path / "a", place)
    before = lines(tree.store, place)
    wish = Job(TOPIC, TOPIC_ID, HOUR_MS, Wish(1 << 30), (place,), until_ms=FIRST_HOUR + HOUR_MS)

    def check(store: Store) -> None:
        assert lines(store, place) == before
        assert len(shown(store, place)) == 1
        if place is Place.HOUR:
            check_marker(store)

    def run(store: Store) -> None:
        for one in compact(store, wish):
            assert one.error is None
            assert one.copied == (opened is not Concats) or one.state == "resumed"

    assert die_everywhere(copies(tree.store, tmp_path, opened), run, check) >= 8


@OPENED
@pytest.mark.parametrize("place", [Place.HOUR, Place.LATE])
def test_at_no_step_is_a_record_shown_twice_or_short_beside_a_marker(
    tmp_path: Path, place: Place, opened: Callable[[str], Store]
) -> None:
    tree = written(tmp_path / "a", place)
    before = lines(tree.store, place)
    make, at = copies(tree.store, tmp_path, opened), 0
    wish = Job(TOPIC, TOPIC_ID, HOUR_MS, Wish(1 << 30), (place,), until_ms=FIRST_HOUR + HOUR_MS)
    while True:
        store = make()
        try:
            compact(dying(store, at), wish)
        except Died:
            found = lines(store, place)
            assert len(found) == len(set(found))
            if place is Place.HOUR and Path(f"{store.root}/{PLACES[place]}/{layout.SUCCESS}").exists():
                check_files(store)
                assert found == before
            if opened is Concats:
                assert found == before
        else:
            return
        at += 1


@OPENED
def test_a_finisher_that_comes_by_at_any_step_does_no_harm(tmp_path: Path, opened: Callable[[str], Store]) -> None:
    """A daemon that starts anew does not know yet that the hour was finished."""
    tree = written(tmp_path / "a", Place.HOUR)
    before = lines(tree.store, Place.HOUR)
    make, at = copies(tree.store, tmp_path, opened), 0
    wish = Job(TOPIC, TOPIC_ID, HOUR_MS, Wish(1 << 30), (Place.HOUR,), until_ms=FIRST_HOUR + HOUR_MS)
    plan = plans.decode((tree.path(PLACES[Place.HOUR]) / layout.SUCCESS).read_bytes())
    while True:
        store = make()
        try:
            compact(dying(store, at), wish)
        except Died:
            with suppress(LogflumeError):  # it waits for the one who is at it
                finishing.finish(store, plan)
            assert [one.error for one in compact(store, wish) if one.error] == []
            finishing.finish(store, plan)
            assert lines(store, Place.HOUR) == before
            check_marker(store)
        else:
            return
        at += 1


@OPENED
@pytest.mark.parametrize("place", [Place.LATE, Place.APPENDED])
def test_late_records_of_an_hour_that_data_retention_has_removed_are_compacted(
    tmp_path: Path, place: Place, opened: Callable[[str], Store]
) -> None:
    tree = written(tmp_path / "a", place)
    compact(tree.store, job(place, files=1))
    shutil.rmtree(tree.path(PLACES[place]))
    for _ in range(3):
        tree.ingests[0].feed([FIRST_HOUR + 9_000])
        tree.ingests[0].decide(everything=True)
    before = lines(tree.store, place)
    assert len(before) == 3

    def check(store: Store) -> None:
        assert lines(store, place) == before
        assert len(shown(store, place)) == 2  # the newest entry's is left alone
        assert compact(store, job(place)) == []

    def run(store: Store) -> None:
        assert [one.error for one in compact(store, job(place)) if one.error] == []

    assert die_everywhere(copies(tree.store, tmp_path, opened), run, check, afters=(False,)) >= 6


def test_what_cannot_be_copied_any_more_is_given_up_and_done_anew(tmp_path: Path) -> None:
    """Somebody has emptied ``tmp``: the files are there as they were."""
    tree = written(tmp_path / "a", Place.LATE)
    before = lines(tree.store, Place.LATE)
    for at in range(8):
        with suppress(Died):
            compact(dying(tree.store, at), job(Place.LATE))
        shutil.rmtree(tree.path(f"_logflume/{TOPIC}/{TOPIC_ID}/tmp"), ignore_errors=True)
        assert lines(tree.store, Place.LATE) == before
        if records.hours(tree.store, TOPIC, TOPIC_ID, Place.LATE):
            break
    assert [one.error for one in compact(tree.store, job(Place.LATE)) if one.error] == []
    assert len(shown(tree.store, Place.LATE)) == 1
    assert lines(tree.store, Place.LATE) == before
    assert compact(tree.store, job(Place.LATE)) == []


def test_the_command_tells_people_and_programs(tmp_path: Path) -> None:
    tree = written(tmp_path, Place.HOUR)
    file = tmp_path / "logflume.toml"
    file.write_text(
        '[kafka]\n"bootstrap.servers" = "127.0.0.1:1"\n"group.id" = "g"\n'
        f'[output]\nroot = "{tree.url}"\n[daemon]\nspool = "{tmp_path}/spool"\n'
        '[[topic]]\nname = "app"\ntimestamp = "create"\n'
    )
    command = ["compact", "-c", str(file), "--tree", "hours", "--from", "2026-11-22T07", "--to", "2026-11-22T08"]
    dry = CliRunner().invoke(main, [*command, "--dry-run"], catch_exceptions=False)
    assert dry.stdout.startswith("planned   app/dt=2026-11-22/hour=07: 4 files, would be 1")
    done = CliRunner().invoke(main, [*command, "--json"], catch_exceptions=False)
    (body,) = json.loads(done.stdout)["directories"]
    assert (done.exit_code, body["state"], body["tree"], body["files_after"]) == (0, "compacted", "hours", 1)
    again = CliRunner().invoke(main, command, catch_exceptions=False)
    assert again.stdout == "nothing to compact\n"


def test_of_an_error_without_a_hint_the_command_prints_none(tmp_path: Path) -> None:
    tree = written(tmp_path, Place.HOUR)
    marker = tree.path(PLACES[Place.HOUR]) / layout.SUCCESS
    marker.unlink()
    marker.mkdir()
    command = ["compact", "-c", files.write(tmp_path, root=tree.url), "--tree", "hours"]
    done = CliRunner().invoke(main, command)
    assert f"error: read {marker}: Is a directory\n" in done.stdout
    assert "hint:" not in done.stdout
