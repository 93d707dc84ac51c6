"""Every offset of a tree is found where it is, with the reason."""

from __future__ import annotations

import gzip
import itertools
import json
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from logflume.compact.record import Place
from logflume.compact.run import compact
from logflume.core import layout, ledger
from logflume.core.ledger import Entry, Head, Part
from logflume.errors import UsageError
from logflume.finish import plan as plans
from logflume.finish.reveal import reveal
from logflume.kafka.embedded import EmbeddedBroker, Outgoing, produce
from logflume.kafka.topics import MOCK_TOPIC_ID, Topics
from logflume.locate.paths import locate_file, locate_time, relative
from logflume.locate.plan import Fate, Shown
from logflume.locate.run import locate_offset, topic_ids
from logflume.model import HOUR_MS, Kind, OffsetSet, PartitionId
from logflume.reconcile.accept import accept_gap
from logflume.store import Store, open_store
from tests.compact.faults import OPENED, Died, copies, dying
from tests.compact.test_compact import job, written
from tests.compact.test_compact import lines as shown_lines
from tests.quarantine.test_quarantine import again
from tests.quarantine.test_quarantine import written as with_bad_times
from tests.reconcile import bulk
from tests.reconcile.tree import FIRST_HOUR, TOPIC, TOPIC_ID, Tree, configuration
from tests.reveal.test_reveal import held_back


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path).fill(4)


def test_each_offset_is_found_with_its_line(tree: Tree) -> None:
    """The range of bytes is decompressed: the record is there and nowhere else."""
    fates: Counter[Fate] = Counter()
    for ingest in tree.ingests:
        for offset in range(ingest.head.state.committed):
            answer = locate_offset(tree.store, ingest.pid, offset, tree.topic)
            fates[answer.fate] += 1
            if answer.fate is Fate.GAP:
                assert offset not in ingest.fates
                assert "transaction marker" in answer.why
                continue
            kind, hour = ingest.fates[offset]
            assert (answer.fate.value, answer.hour) == (kind.value, layout.hour_name(hour))
            assert answer.place is not None
            assert answer.place.shown is Shown.VISIBLE
            data = tree.path(answer.place.path).read_bytes()[answer.place.start :][: answer.place.size]
            wanted = b'"offset":%d,' if kind is Kind.QUARANTINE else b'"%d:%%d"' % ingest.pid.partition
            assert gzip.decompress(data).count(wanted % offset) == 1
            assert answer.entry is not None
            assert tree.entry(answer.entry, ingest.pid.partition).exists()
    assert set(fates) == {Fate.HOUR, Fate.LATE, Fate.QUARANTINE, Fate.GAP}


def test_why_it_is_late_or_quarantined_is_told(tree: Tree) -> None:
    ingest = tree.ingests[0]
    late = next(offset for offset, (kind, _) in ingest.fates.items() if kind is Kind.LATE)
    answer = locate_offset(tree.store, ingest.pid, late)
    assert answer.why.startswith("hour 2026-11-22T07 was closed at offset ")
    boundary = int(answer.why.split("offset ")[1].split(":")[0])
    assert boundary <= late
    bad = next(offset for offset, (kind, _) in ingest.fates.items() if kind is Kind.QUARANTINE)
    assert "bad_json" in locate_offset(tree.store, ingest.pid, bad).why


def test_in_a_compacted_file_the_line_of_its_own_partition_tells(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    for ingest, bad in zip(tree.ingests, ([b"no json", b"[1]"], [b"[1]", b"no json"]), strict=True):
        ingest.feed([FIRST_HOUR + 1000, *bad])
        ingest.decide(everything=True)
        ingest.feed([FIRST_HOUR + 2000])
        ingest.decide(everything=True)
    pids = [ingest.pid for ingest in tree.ingests]
    before = [locate_offset(tree.store, pid, 1).why for pid in pids]
    assert len(set(before)) == 2
    assert compact(tree.store, job(Place.QUARANTINE))
    assert [locate_offset(tree.store, pid, 1).why for pid in pids] == before


def test_of_several_reasons_the_line_tells_which(tmp_path: Path) -> None:
    tree = Tree(tmp_path, partitions=1)
    ingest = tree.ingests[0]
    ingest.feed([FIRST_HOUR + 1, b"not json", b"[]", b"\xff", FIRST_HOUR + 2])
    ingest.decide(everything=True)
    reasons = [locate_offset(tree.store, ingest.pid, offset).why.split(";")[0] for offset in (1, 2, 3)]
    assert reasons == ["quarantined: bad_json", "quarantined: not_object", "quarantined: not_utf8"]


def test_before_an_hour_is_finished_its_part_is_hidden(tree: Tree) -> None:
    ingest = tree.ingests[0]
    offset = ingest.head.state.committed
    ingest.decide(everything=True)
    answer = locate_offset(tree.store, ingest.pid, offset)
    assert answer.place is not None
    assert (answer.fate, answer.place.shown, answer.place.marker) == (Fate.HOUR, Shown.HIDDEN, "")


def test_what_is_not_decided_is_read_or_not(tree: Tree) -> None:
    state = tree.ingests[0].head.state
    assert state.committed < state.position
    read = locate_offset(tree.store, tree.pid(), state.committed)
    unread = locate_offset(tree.store, tree.pid(), state.position)
    assert (read.fate, unread.fate) == (Fate.UNDECIDED, Fate.UNDECIDED)
    assert read.why.startswith("read, and in a part that is still open")
    assert unread.why.startswith("not read")


def test_before_the_ledger_and_in_an_accepted_gap(tmp_path: Path) -> None:
    tree = Tree(tmp_path, partitions=1, start=100, topic_id=MOCK_TOPIC_ID).fill(1)
    assert locate_offset(tree.store, tree.pid(), 99).fate is Fate.BEFORE
    committed = tree.ingests[0].head.state.committed
    with EmbeddedBroker() as broker:
        produce(broker.bootstrap, TOPIC, [Outgoing(0, b"x")] * (committed + 50))
        topics, owner = Topics({"bootstrap.servers": broker.bootstrap}), tree.ingests[0].owner
        why = "the broker burnt down"
        accept_gap(tree.store, topics, tree.pid(), committed + 50, owner, why, even_readable=True)
    answer = locate_offset(tree.store, tree.pid(), committed + 10)
    assert answer.fate is Fate.GAP
    assert answer.why.endswith("accepted as lost: the broker burnt down")


def test_dropped_late_records_are_named_so(tmp_path: Path) -> None:
    tree = Tree(tmp_path, partitions=1, settings={"late": "drop"}).fill(2)
    dropped = [
        offset
        for offset in range(tree.ingests[0].head.state.committed)
        if locate_offset(tree.store, tree.pid(), offset).fate is Fate.DROPPED
    ]
    assert len(dropped) == 1


def test_a_missing_file_is_said_to_be_missing(tree: Tree) -> None:
    tree.finished(1).unlink()
    offset = next(
        o for o, (kind, hour) in tree.ingests[0].fates.items() if hour == FIRST_HOUR + HOUR_MS and kind is Kind.HOUR
    )
    answer = locate_offset(tree.store, tree.pid(), offset)
    assert answer.place is not None
    assert answer.place.shown is Shown.MISSING


def test_when_its_entry_is_dropped_the_manifests_tell(tree: Tree) -> None:
    fates = dict(tree.ingests[0].fates)
    for path in tree.entries()[:-1]:
        path.unlink()
    for offset in range(tree.ingests[0].head.state.committed):
        answer = locate_offset(tree.store, tree.pid(), offset, tree.topic)
        kind, hour = fates.get(offset, (Kind.LATE, 0))
        if kind is Kind.HOUR and hour < FIRST_HOUR + 4 * HOUR_MS:
            assert (answer.fate, answer.hour) == (Fate.HOUR, layout.hour_name(hour)), offset
            assert answer.place is not None
        elif answer.entry is None:
            assert answer.fate is Fate.FORGOTTEN


def test_hours_that_were_removed_do_not_hide_those_that_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More of them than are looked at around a boundary, and their entries are gone, too."""
    monkeypatch.setattr("logflume.locate.run.HOURS", 10)
    hours, removed, per_hour = 60, 40, 20
    first = FIRST_HOUR - hours * HOUR_MS
    bulk.make(
        tmp_path, topic=TOPIC, topic_id="id", first_hour=first, partitions=1, hours=hours, rolls=2, target=1 << 20
    )
    store, pid = open_store(f"file://{tmp_path}"), PartitionId(TOPIC, "id", 0)
    for path in sorted(Path(tmp_path, layout.chain_directory(pid)).glob("*.json"))[:-2]:
        path.unlink()
    for n in range(removed):
        shutil.rmtree(tmp_path / layout.hour_path(TOPIC, first + n * HOUR_MS, HOUR_MS))
    for n in range(removed, hours - 1):
        answer = locate_offset(store, pid, per_hour * n + 5)
        assert (answer.fate, answer.hour) == (Fate.HOUR, layout.hour_name(first + n * HOUR_MS))
    answer = locate_offset(store, pid, per_hour * 3)
    assert (answer.fate, answer.why.endswith("or its hour was removed")) == (Fate.FORGOTTEN, True)


def test_a_moment_is_in_an_hour(tree: Tree) -> None:
    body = locate_time(tree.store, TOPIC, TOPIC_ID, FIRST_HOUR + HOUR_MS + 1_000_000, HOUR_MS, None)
    assert (body["hour"], body["marker"], len(body["files"])) == ("2026-11-22T08", "_SUCCESS", 1 + 2)  # two are late
    one = locate_time(tree.store, TOPIC, TOPIC_ID, FIRST_HOUR + HOUR_MS + 1_000_000, HOUR_MS, 1)
    assert {part["partition"] for file in one["files"] for part in file["parts"]} == {1}
    later = locate_time(tree.store, TOPIC, TOPIC_ID, FIRST_HOUR + 9 * HOUR_MS, HOUR_MS, None)
    assert (later["marker"], later["files"]) == ("", [])


@pytest.mark.parametrize("late", ["side", "append"])
def test_a_moment_is_searched_for_in_late_and_appended_files_too(tmp_path: Path, late: str) -> None:
    """The tree has one late record of the first hour in each partition, of a moment that the hour itself lacks."""
    tree = Tree(tmp_path, settings={"late": late}).fill(3)
    # so the hour's own files cannot have it
    manifest = plans.decode(tree.marker(0).read_bytes())
    time_ms = max(part.max_time for file in manifest.files for part in file.parts) + 1
    for partition, count in ((None, 2), (1, 1)):
        files = locate_time(tree.store, TOPIC, TOPIC_ID, time_ms, HOUR_MS, partition)["files"]
        names = [layout.parse_part_name(file["path"].rsplit("/", 1)[1]) for file in files]
        assert [(name.appended, name.hidden) for name in names if name] == [(late == "append", False)] * count
        assert [(file["there"], file["parts"]) for file in files] == [(True, [])] * count


@OPENED
@pytest.mark.parametrize("place", [Place.HOUR, Place.APPENDED, Place.LATE])
def test_while_a_compaction_is_at_it_a_moment_is_found_and_no_file_named_in_vain(
    tmp_path: Path, place: Place, opened: Callable[[str], Store]
) -> None:
    tree = written(tmp_path / "a", place)
    there = [json.loads(line) for line in shown_lines(tree.store, place)]
    # of the late records, or of any
    time_ms = there[0]["ts"] if place is Place.HOUR else FIRST_HOUR + 1000
    wanted = [one["n"].encode() for one in there if one["ts"] == time_ms]
    assert wanted
    make = copies(tree.store, tmp_path, opened)
    for at in itertools.count():
        store = make()
        try:
            compact(dying(store, at), replace(job(place), until_ms=FIRST_HOUR + HOUR_MS))
        except Died:
            done = False
        else:
            done = True
        files = locate_time(store, TOPIC, TOPIC_ID, time_ms, HOUR_MS, None)["files"]
        texts = [gzip.decompress(Path(store.root, file["path"]).read_bytes()) for file in files if file["there"]]
        for n in wanted:
            assert sum(text.count(b'"%s"' % n) for text in texts) == 1, (at, files)
        if done:
            assert not any("_replaced" in file["path"] for file in files)
            assert all(file["parts"] for file in files if layout.parse_compacted_name(file["path"].rsplit("/", 1)[1]))
            assert at >= 4
            return


def test_beside_an_operators_marker_parts_that_are_still_hidden_may_have_a_moment(tmp_path: Path) -> None:
    tree = held_back(tmp_path)
    reveal(tree.store, TOPIC, TOPIC_ID, FIRST_HOUR)
    assert locate_time(tree.store, TOPIC, TOPIC_ID, FIRST_HOUR + 1, HOUR_MS, None)["marker"] == "_INCOMPLETE"
    tree.ingests[1].feed([FIRST_HOUR + HOUR_MS - 1])
    tree.ingests[1].decide(everything=True)
    files = locate_time(tree.store, TOPIC, TOPIC_ID, FIRST_HOUR + HOUR_MS - 1, HOUR_MS, 1)["files"]
    assert [(file["path"].rsplit("/", 1)[1][:7], file["parts"]) for file in files] == [("_p00001", [])]


def test_while_an_hour_is_merged_a_part_may_have_swallowed_those_of_another_partition(tmp_path: Path) -> None:
    tree = Tree(tmp_path).fill(1, finish=False)

    def firsts() -> set[int | None]:
        files = locate_time(tree.store, TOPIC, TOPIC_ID, FIRST_HOUR + 1000, HOUR_MS, 1)["files"]
        names = [layout.parse_part_name(file["path"].rsplit("/", 1)[1]) for file in files]
        return {name.partition for name in names if name is not None}

    assert firsts() == {1}
    plan = tree.path(layout.plan_path(TOPIC, TOPIC_ID, FIRST_HOUR, HOUR_MS))
    plan.parent.mkdir(parents=True)
    plan.write_bytes(b"{}")
    assert firsts() == {0, 1}


def test_parts_that_a_finisher_has_left_beside_their_file_are_not_named(tree: Tree) -> None:
    # the last hour has no late files
    part = plans.decode(tree.marker(3).read_bytes()).files[0].parts[0]
    tree.path(part.path).write_bytes(b"x")
    files = locate_time(tree.store, TOPIC, TOPIC_ID, part.min_time, HOUR_MS, None)["files"]
    assert [file["path"] for file in files] == [f"{tree.hour(3)}/{tree.finished(3).name}"]


def test_of_a_moment_a_file_that_is_lost_is_said_so_and_a_stranger_is_not_named(tree: Tree) -> None:
    tree.path(f"{tree.hour(1)}/mine.gz").write_bytes(b"x")
    tree.finished(1).unlink()
    body = locate_time(tree.store, TOPIC, TOPIC_ID, FIRST_HOUR + HOUR_MS + 1_000_000, HOUR_MS, None)
    assert [file["there"] for file in body["files"] if file["path"].startswith(f"{TOPIC}/")] == [False]


def test_a_marker_that_cannot_be_read_hides_no_file(tree: Tree) -> None:
    tree.marker(1).write_bytes(b"x")
    body = locate_time(tree.store, TOPIC, TOPIC_ID, FIRST_HOUR + HOUR_MS + 1_000_000, HOUR_MS, None)
    assert "cannot be read" in body["why"]
    names = [file["path"] for file in body["files"] if file["path"].startswith(f"{TOPIC}/")]
    assert names == [f"{tree.hour(1)}/{tree.finished(1).name}"]


def test_every_file_of_a_tree_is_known(tree: Tree) -> None:
    tree.ingests[0].decide(everything=True)
    seen = {path: locate_file(tree.store, path)["is"] for path in tree.snapshot()}
    assert Counter(seen.values()) == Counter(
        marker=4, finished=4, part=8 + 6 + 1, entry=len(tree.entries()) + len(tree.entries(1)), ledger=1
    )
    stranger = tree.path(f"{tree.hour(1)}/mine.gz")
    stranger.write_bytes(b"x")
    other = tree.path(f"{tree.hour(1, Kind.LATE)}/p00000-0000000000000000001.json.gz")
    other.write_bytes(b"x")
    for path in (stranger, other):
        assert locate_file(tree.store, str(path.relative_to(tree.store.root)))["is"] == "unknown"


def test_a_path_may_be_a_url_absolute_or_relative(tree: Tree) -> None:
    for text in (f"{tree.store.url}/app/x", f"{tree.store.root}/app/x", "app/x"):
        assert relative(tree.store, text) == "app/x"
    with pytest.raises(UsageError, match="not below the output root"):
        relative(tree.store, "/elsewhere/x")
    with pytest.raises(UsageError, match="not a path of this layout"):
        locate_file(tree.store, "app/x")


def test_a_topic_without_a_ledger_is_a_usage_error(tree: Tree) -> None:
    with pytest.raises(UsageError, match="has no ledger"):
        topic_ids(tree.store, "other")
    with pytest.raises(UsageError, match="has no ledger"):
        locate_offset(tree.store, tree.pid(7), 1)


# -- a year ---------------------------------------------------------------------------------------

YEAR_ENTRIES = 50_000
PER_HOUR = 6


@pytest.mark.slow
def test_a_year_of_ledger_is_answered_in_under_a_second(tmp_path: Path) -> None:
    root, pid = tmp_path / "root", PartitionId(TOPIC, "id", 0)
    head = bulk.put(root, ledger.genesis(pid, window_ms=HOUR_MS, start=0, owner="bulk", at=0, config="bulk"))
    for n in range(YEAR_ENTRIES - 1):
        head = bulk.put(root, _entry(head, n))
    config = configuration(f"file://{root}", tmp_path / "spool")
    store = open_store(config.output.root)
    offsets = [5, 10 * YEAR_ENTRIES // 3, 10 * YEAR_ENTRIES - 15]
    for offset in offsets:
        began = time.monotonic()
        answer = locate_offset(store, pid, offset, config.topic_for(TOPIC))
        took = time.monotonic() - began
        assert (answer.fate, answer.entry) == (Fate.HOUR, offset // 10 + 1)
        assert took < 1.0, took


def _entry(head: Head, n: int) -> Entry:
    hour = FIRST_HOUR + n // PER_HOUR * HOUR_MS
    first = head.state.committed
    path = layout.part_path(head.entry.pid, Kind.HOUR, hour, first, HOUR_MS, ".json.gz", early=False, append=False)
    part = Part(Kind.HOUR, hour, path, "tmp", 1, 1, 10, "", OffsetSet.run(first, first + 10), hour, hour + 9)
    closed = bulk.closing(head.state, hour, part) if n % PER_HOUR == PER_HOUR - 1 else ()
    return replace(bulk.decided(head, part, closed, n), closed=closed)


# -- after a compaction ---------------------------------------------------------------------------


@pytest.mark.parametrize("place", Place)
def test_each_offset_is_found_in_what_a_compaction_made_of_its_file(tmp_path: Path, place: Place) -> None:
    tree = written(tmp_path, place)
    assert compact(tree.store, job(place))
    made = 0
    for ingest in tree.ingests:
        for offset, (kind, _) in ingest.fates.items():
            if offset >= ingest.head.state.committed:
                continue
            answer = locate_offset(tree.store, ingest.pid, offset, tree.topic)
            assert answer.place is not None
            assert answer.place.shown is not Shown.MISSING
            data = tree.path(answer.place.path).read_bytes()[answer.place.start :][: answer.place.size]
            wanted = b'"offset":%d,' if kind is Kind.QUARANTINE else b'"%d:%%d"' % ingest.pid.partition
            assert gzip.decompress(data).count(wanted % offset) == 1
            made += layout.parse_compacted_name(answer.place.path.rsplit("/", 1)[1]) is not None
    assert made > 0


@OPENED
@pytest.mark.parametrize("place", [Place.HOUR, Place.LATE])
def test_while_a_compaction_is_at_it_every_offset_is_found(
    tmp_path: Path, place: Place, opened: Callable[[str], Store]
) -> None:
    tree = written(tmp_path / "a", place)
    make = copies(tree.store, tmp_path, opened)
    kinds = {Place.HOUR: Kind.HOUR, Place.LATE: Kind.LATE}
    wanted = [
        (ingest, offset)
        for ingest in tree.ingests
        for offset, fate in ingest.fates.items()
        if fate == (kinds[place], FIRST_HOUR) and offset < ingest.head.state.committed
    ]
    for at in itertools.count():
        store = make()
        try:
            compact(dying(store, at), replace(job(place), until_ms=FIRST_HOUR + HOUR_MS))
        except Died:
            for ingest, offset in wanted:
                answer = locate_offset(store, ingest.pid, offset, tree.topic)
                assert answer.place is not None
                path = Path(store.root, answer.place.path)
                data = path.read_bytes()[answer.place.start :][: answer.place.size]
                assert gzip.decompress(data).count(b'"%d:%d"' % (ingest.pid.partition, offset)) == 1, (at, answer)
        else:
            assert at >= 4
            return


@pytest.mark.parametrize("place", Place)
def test_a_file_that_a_compaction_made_is_told_with_its_parts(tmp_path: Path, place: Place) -> None:
    tree = written(tmp_path, place)
    directory = next(one for one in compact(tree.store, job(place))).spot.directory
    found = {
        path.name: locate_file(tree.store, f"{directory}/{path.name}")["is"] for path in tree.path(directory).iterdir()
    }
    assert {kind for name, kind in found.items() if layout.parse_compacted_name(name)} == {"compacted"}
    assert {kind for name, kind in found.items() if layout.parse_replaced_name(name) is not None} == {"replaced"}
    assert "unknown" not in found.values()


def test_a_file_of_reinjected_records_is_told(tmp_path: Path) -> None:
    tree = with_bad_times(tmp_path)
    path = again(tree.store, tree).files[-1]
    told = locate_file(tree.store, path)
    assert (told["is"], told["bytes"]) == ("reinjected", told["decided_bytes"])
    assert "2 records that were quarantined" in told["why"]
