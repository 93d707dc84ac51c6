"""What others have left, or are at: uploads of repairs that died, compactions that are not done, files that no server
can read.
"""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from logflume.backfill import repair
from logflume.backfill.look import Found, Wanted, find, partition_of
from logflume.compact.plan import Wish
from logflume.compact.record import Place
from logflume.compact.run import Job, compact
from logflume.core import layout
from logflume.errors import StoreError, Unreachable
from logflume.finish import plan as plans
from logflume.finish.plan import File
from logflume.model import HOUR_MS, Kind
from logflume.reconcile.findings import What
from logflume.reconcile.run import reconcile
from logflume.store import Store
from logflume.store.local import LocalStore
from tests.backfill.test_repair_steps import Scene, quick_looks, scene
from tests.compact.faults import Concats, Died, copies, dying
from tests.reconcile.conftest import run_of
from tests.reconcile.tree import FIRST_HOUR, TOPIC, TOPIC_ID, Tree, flip

__all__ = ["quick_looks", "scene"]  # fixtures

same_bytes = pytest.mark.parametrize("scene", [False], indirect=True, ids=["same bytes"])
other_bytes = pytest.mark.parametrize("scene", [True], indirect=True, ids=["other bytes"])


def files_of(tree: Tree) -> Sequence[File]:
    return plans.decode((tree.path(tree.hour(0)) / layout.SUCCESS).read_bytes()).files


def uploads(store: Store) -> list[Path]:
    return list(Path(store.root, layout.topic_directory(TOPIC, TOPIC_ID), "tmp").glob(f"{layout.REPAIRED}*"))


# -- uploads --------------------------------------------------------------------------------------


@same_bytes
@pytest.mark.parametrize("full", [False, True], ids=["incremental", "full"])
def test_reconcile_never_takes_the_only_copy_that_a_repair_has_made(scene: Scene, tmp_path: Path, full: bool) -> None:
    tree = scene.tree
    assert reconcile(run_of(tree)).exit_code == 0  # its checkpoint: the hour is settled
    first = files_of(tree)[0]
    path = tree.path(tree.hour(0)) / first.name
    data = path.read_bytes()
    flip(path)
    make = copies(tree.store, tmp_path)
    alone = 0
    for number in range(8):
        store = make()
        scene.lost = set()
        with suppress(Died):
            scene.run(dying(store, number))
        copy = Path(store.root) / tree.hour(0) / first.name
        if not uploads(store) or copy.exists():
            continue
        alone += 1
        reconcile(replace(run_of(tree, repair=True, full=full), store=store))
        scene.lost = {part.path for part in first.parts}
        scene.run(store)
        assert copy.read_bytes() == data
    assert alone


@same_bytes
def test_a_repair_removes_what_others_have_left_for_files_that_are_whole(scene: Scene) -> None:
    tree, store = scene.tree, scene.tree.store
    first, second = files_of(tree)[:2]
    directory = f"{store.root}/{layout.topic_directory(TOPIC, TOPIC_ID)}/tmp"
    # one that was not written to its end, and one of a file that was mended then
    for file, text in ((first, b"half"), (first, b"other"), (second, b"done")):
        store.write(f"{directory}/{layout.repaired_name(f'{tree.hour(0)}/{file.name}', text.decode())}", text)
    path = tree.path(tree.hour(0)) / first.name
    flip(path)
    scene.store = store
    of_second = Wanted(TOPIC, hours=(FIRST_HOUR,), partitions=(partition_of(second.parts[-1]),))
    assert not {partition_of(part) for part in first.parts} & set(of_second.partitions)
    repair.repair(scene.job, find(store, scene.job, TOPIC_ID, of_second), 1, lambda _: None)
    assert {one.read_bytes() for one in uploads(store)} == {b"half", b"other"}
    scene.run(store)
    assert uploads(store) == []
    assert reconcile(run_of(tree, full=True, deep=True)).exit_code == 0


# -- what cannot be read --------------------------------------------------------------------------


class Broken(LocalStore):
    """As HDFS answers where every replica of a block is gone, or where it does not answer."""

    bad = ""
    error: Exception = StoreError("DataTransferError: all replicas are gone")

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        if path == self.bad:
            raise self.error
        return super().read(path, offset, length)

    def stream(self, path: str, chunk_bytes: int = 4 << 20) -> Iterator[bytes]:
        if path == self.bad:
            raise self.error
        yield from super().stream(path, chunk_bytes)


@same_bytes
def test_a_file_that_cannot_be_read_is_one_to_mend_and_hides_no_other(scene: Scene) -> None:
    tree = scene.tree
    store = Broken(tree.store.root)
    first = files_of(tree)[0]
    path = f"{tree.hour(0)}/{first.name}"
    store.bad = f"{store.root}/{path}"
    gone = str(tree.finished(1).relative_to(store.root))
    tree.path(gone).unlink()
    found = find(store, scene.job, TOPIC_ID, Wanted(TOPIC))
    assert [mend.path for mend in found.mends] == [path, gone]
    assert len(found.mends[0].bad) == len(first.parts)
    report = reconcile(replace(run_of(tree, full=True, deep=True), store=store))
    assert {(one.what, one.path) for one in report.findings} == {(What.FILE_DAMAGED, path), (What.FILE_MISSING, gone)}
    assert "cannot be read" in next(one for one in report.findings if one.what is What.FILE_DAMAGED).detail
    assert report.commands


@same_bytes
def test_a_server_that_does_not_answer_ends_the_run(scene: Scene) -> None:
    tree = scene.tree
    store = Broken(tree.store.root)
    store.bad, store.error = f"{store.root}/{tree.hour(0)}/{files_of(tree)[0].name}", Unreachable("no answer")
    with pytest.raises(Unreachable):
        find(store, scene.job, TOPIC_ID, Wanted(TOPIC))
    with pytest.raises(Unreachable):
        reconcile(replace(run_of(tree, full=True, deep=True), store=store))


# -- compactions ----------------------------------------------------------------------------------


def late_job(**wish: bool) -> Job:
    return Job(TOPIC, TOPIC_ID, HOUR_MS, Wish(1 << 30, **wish), (Place.LATE,))


def decide_late(tree: Tree) -> None:
    for ingest in tree.ingests:
        # an entry's files are compacted once there is a newer one
        for _ in range(2):
            ingest.feed([ingest.now])
            ingest.decide(everything=True)


def late_lines(store: Store, tree: Tree) -> Counter[bytes]:
    directory = Path(store.root) / tree.hour(0, Kind.LATE)
    files = [path for path in directory.iterdir() if not path.name.startswith("_")]
    return Counter(line for path in files for line in gzip.decompress(path.read_bytes()).splitlines())


@same_bytes
def test_what_a_rewrite_has_not_made_yet_is_not_made_beside_its_source(scene: Scene, tmp_path: Path) -> None:
    tree = scene.tree
    decide_late(tree)
    tree.store = Concats(tree.store.root)
    before = late_lines(tree.store, tree)
    assert compact(tree.store, late_job())
    make = copies(tree.store, tmp_path, Concats)
    skipped = 0
    for number in range(12):
        store = make()
        with suppress(Died):
            compact(dying(store, number), late_job(rewrite=True))
        found = find(store, scene.job, TOPIC_ID, Wanted(TOPIC))
        assert found.mends == ()
        skipped += len(found.skipped)
        scene.run(store)
        assert not late_lines(store, tree) - before
        compact(store, late_job())
        assert late_lines(store, tree) == before
        assert find(store, scene.job, TOPIC_ID, Wanted(TOPIC)) == Found((), ())
    assert skipped


@same_bytes
def test_what_a_rewrite_has_made_and_is_damaged_then_is_mended(scene: Scene) -> None:
    """Also while its sources are still kept."""
    tree = scene.tree
    decide_late(tree)
    before = late_lines(tree.store, tree)
    compact(tree.store, late_job(rewrite=True))
    directory = tree.path(tree.hour(0, Kind.LATE))
    assert list(directory.glob("_replaced-*"))
    path = next(directory.glob("app-c*"))
    path.write_bytes(path.read_bytes()[:-1])
    scene.run(tree.store)
    assert late_lines(tree.store, tree) == before


@same_bytes
def test_an_hour_in_the_hands_of_a_compaction_is_named(scene: Scene, tmp_path: Path) -> None:
    tree = scene.tree
    make = copies(tree.store, tmp_path)
    job = Job(TOPIC, TOPIC_ID, HOUR_MS, Wish(1 << 30), (Place.HOUR,), until_ms=FIRST_HOUR + HOUR_MS)
    named = 0
    for number in range(12):
        store = make()
        with suppress(Died):
            compact(dying(store, number), job)
        directory = Path(store.root) / tree.hour(0)
        found = find(store, scene.job, TOPIC_ID, Wanted(TOPIC))
        if not (directory / layout.SUCCESS).exists() and not list(directory.glob("app-c*")):
            assert found.skipped == (tree.hour(0),)
            named += 1
        else:
            assert found.skipped == ()
    assert named


# -- markers --------------------------------------------------------------------------------------


@other_bytes
def test_an_hour_that_keeps_its_old_marker_is_named(scene: Scene) -> None:
    tree, store = scene.tree, scene.tree.store
    scene.store = store
    first, second = files_of(tree)[:2]
    flip(tree.path(tree.hour(0)) / first.name)
    data = tree.path(f"{tree.hour(0)}/{second.name}").read_bytes()
    tree.path(f"{tree.hour(0)}/{second.name}").unlink()
    of_first = Wanted(TOPIC, partitions=(partition_of(first.parts[0]),))
    done = repair.repair(scene.job, find(store, scene.job, TOPIC_ID, of_first), 1, lambda _: None)
    assert done.unmarked == (tree.hour(0),)
    tree.path(f"{tree.hour(0)}/{second.name}").write_bytes(data)
    done = repair.repair(scene.job, find(store, scene.job, TOPIC_ID, of_first), 1, lambda _: None)
    assert (done.marked, done.unmarked) == (1, ())
