"""A repair that dies before or after any of its effects is completed by the next one.

Kafka is what a repair only reads, so here the parts' bytes stand in for it: the effects are those of the store.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

import pytest

from logflume.backfill import repair
from logflume.backfill.look import Wanted, find
from logflume.backfill.model import Job
from logflume.backfill.rebuild import Rebuilt
from logflume.compact.plan import Wish
from logflume.compact.record import Place
from logflume.compact.run import Job as Compaction
from logflume.compact.run import compact
from logflume.core import layout
from logflume.core.ledger import Part
from logflume.errors import Stopped
from logflume.finish import plan as plans
from logflume.model import HOUR_MS, Kind
from logflume.reconcile.run import reconcile
from logflume.store import Store
from logflume.store.local import LocalStore
from tests.compact.faults import Concats, Died, copies, die_everywhere, dying
from tests.reconcile.conftest import quick_looks, run_of
from tests.reconcile.tree import TOPIC, TOPIC_ID, Tree, configuration, flip

__all__ = ["quick_looks"]


class InProcess:
    """The pool of a repair without its processes: a death is that of all."""

    def __init__(self, job: Job, _processes: int, tell: Callable[[int], None]) -> None:
        self._job, self._tell = job, tell

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to end."""

    def run(self, work: Callable[..., Any], items: Sequence[Any]) -> list[Any]:
        return [work(self._job, item, self._tell) for item in items]


@dataclass
class Scene:
    """A finished tree, and what Kafka would give for each part. ``lost``: parts that are not in Kafka any more."""

    tree: Tree
    bytes: dict[str, bytes]
    lost: set[str]
    otherwise: bool
    base: Path
    store: Store

    @property
    def job(self) -> Job:
        return Job(self.tree.config, self.tree.url, TOPIC, "test", str(self.base / "spool"))

    def rebuild(
        self, _job: Job, _topic: str, part: Part, partition: int, folder: Path, _tell: Callable[[int], None]
    ) -> Rebuilt:
        if part.path in self.lost:
            raise Stopped(f"{part.path}: not in Kafka any more")
        data = self.bytes[part.path]
        if self.otherwise:
            # the time in the first gzip header: other bytes, of the same length and with the same lines
            data = data[:4] + b"\x07\0\0\0" + data[8:]
        path = folder / f"{partition}"
        path.write_bytes(data)
        return Rebuilt(replace(part, sha256=sha256(data).hexdigest()), path)

    def run(self, store: Store) -> None:
        self.store = store
        found = find(store, self.job, TOPIC_ID, Wanted(TOPIC))
        repair.repair(self.job, found, 1, lambda _: None)


def parts_of(tree: Tree) -> dict[str, bytes]:
    """Path of each part → its bytes, from finished hours and the other trees."""
    found = {}
    for marker in Path(tree.store.root, TOPIC).rglob(layout.SUCCESS):
        for file in plans.decode(marker.read_bytes()).files:
            data, at = (marker.parent / file.name).read_bytes(), 0
            for part in file.parts:
                found[part.path] = data[at : at + part.size]
                at += part.size
    for name in (layout.LATE_ROOT, layout.QUARANTINE_ROOT):
        for path in Path(tree.store.root, name).rglob("p*.gz"):
            found[str(path.relative_to(tree.store.root))] = path.read_bytes()
    return found


def visible(store: Store) -> dict[str, bytes]:
    """Every file that people see, with its lines; markers by their name."""
    root = Path(store.root)
    return {
        str(path.relative_to(root)): gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else b""
        for path in sorted(root.rglob("*"))
        if path.is_file() and layout.LEDGER_ROOT not in path.parts and not path.name.startswith("_replaced")
    }


@pytest.fixture(params=[False, True], ids=["same bytes", "other bytes"])
def scene(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    # two files in each hour, each of two parts
    tree = Tree(tmp_path / "tree", settings={"target_bytes": "1KiB", "roll_bytes": "1KiB"}, partitions=4).fill(
        3, records=24
    )
    made = Scene(tree, parts_of(tree), set(), request.param, tmp_path, tree.store)
    monkeypatch.setattr(repair, "LocalPool", InProcess)
    monkeypatch.setattr(repair, "open_root", lambda _job: made.store)
    monkeypatch.setattr(repair, "rebuild", made.rebuild)
    monkeypatch.setattr("os.fsync", lambda _fd: None)
    return made


def damage(scene: Scene) -> None:
    """Of the first hour a file with one damaged part, the others of which Kafka has lost, and one that is gone; of the
    second hour one with a byte too much; a late file gone.
    """
    tree = scene.tree
    directory = tree.path(tree.hour(0))
    first, second = plans.decode((directory / layout.SUCCESS).read_bytes()).files[:2]
    assert len(first.parts) > 1
    flip(directory / first.name)
    scene.lost = {part.path for part in first.parts[1:]}
    (directory / second.name).unlink()
    with tree.finished(1).open("ab") as file:
        file.write(b"x")
    next(tree.path(tree.hour(0, Kind.LATE)).glob("p*")).unlink()


def check_of(scene: Scene, before: dict[str, bytes]) -> Callable[[Store], None]:
    def check(store: Store) -> None:
        found = find(store, scene.job, TOPIC_ID, Wanted(TOPIC))
        assert (found.mends, found.plans) == ((), ())
        assert visible(store) == before
        for marker in Path(store.root, TOPIC).rglob(layout.SUCCESS):
            for file in plans.decode(marker.read_bytes()).files:
                data, at = (marker.parent / file.name).read_bytes(), 0
                for part in file.parts:
                    assert sha256(data[at : at + part.size]).hexdigest() == part.sha256
                    at += part.size
                assert at == len(data)

    return check


@pytest.mark.parametrize(
    ("scene", "opened"),
    [(False, LocalStore), (True, LocalStore), (True, Concats)],
    indirect=["scene"],
    ids=["same bytes", "other bytes, copying", "other bytes, concat"],
)
def test_a_repair_that_dies_anywhere_is_completed_by_the_next_one(
    scene: Scene, opened: Callable[[str], Store], tmp_path: Path
) -> None:
    before = visible(scene.tree.store)
    damage(scene)
    make = copies(scene.tree.store, tmp_path, opened)
    deaths = die_everywhere(make, scene.run, check_of(scene, before), afters=(False,))
    assert deaths >= 14


def test_a_reconcile_in_between_takes_nothing_away_that_the_next_run_needs(scene: Scene, tmp_path: Path) -> None:
    complete = check_of(scene, visible(scene.tree.store))
    damage(scene)
    make = copies(scene.tree.store, tmp_path)
    # some of the changes, since each reconcile looks several times
    for number in range(1, 29, 3):
        store = make()
        with suppress(Died):
            scene.run(dying(store, number))
        reconcile(replace(run_of(scene.tree, full=True, repair=True), store=store))
        scene.run(store)
        complete(store)
    report = reconcile(replace(run_of(scene.tree, full=True, deep=True, repair=True), store=store))
    assert report.findings == []


def test_hours_that_were_compacted_keep_what_a_repair_has_said_of_them(scene: Scene, tmp_path: Path) -> None:
    tree = scene.tree
    job = Compaction(TOPIC, TOPIC_ID, HOUR_MS, Wish(1 << 30), (Place.HOUR,))
    assert compact(tree.store, job)
    before = visible(tree.store)
    next(tree.path(tree.hour(0)).glob("app-c*")).unlink()
    complete = check_of(scene, before)

    def run(store: Store) -> None:
        compact(store, job)
        scene.run(store)

    def check(store: Store) -> None:
        complete(store)
        assert compact(store, job) == []
        complete(store)

    assert die_everywhere(copies(tree.store, tmp_path), run, check, afters=(False,)) >= 4


def test_late_files_that_came_out_otherwise_are_compacted_like_others(scene: Scene) -> None:
    tree = scene.tree
    for _ in range(2):
        # an entry's files are compacted once there is a newer one
        tree.ingests[0].feed([tree.ingests[0].now])
        tree.ingests[0].decide(everything=True)
    directory = tree.path(tree.hour(0, Kind.LATE))
    before = sorted(line for path in directory.glob("p*") for line in gzip.decompress(path.read_bytes()).splitlines())
    min(directory.glob("p*")).unlink()
    scene.run(tree.store)
    job = Compaction(TOPIC, TOPIC_ID, HOUR_MS, Wish(1 << 30), (Place.LATE,))
    assert [one.state for one in compact(tree.store, job)] == ["compacted"]
    (merged,) = directory.glob("app-*")
    assert sorted(gzip.decompress(merged.read_bytes()).splitlines()) == before


@pytest.mark.parametrize("window", ["15m", "2h"])
def test_nothing_is_looked_at_with_another_window_than_the_ledger_has(scene: Scene, window: str) -> None:
    """Every file would be looked for in a directory where it is not."""
    other = configuration(scene.tree.url, scene.tree.spool, window=window)
    with pytest.raises(Stopped, match="window"):
        find(scene.tree.store, replace(scene.job, config=other), TOPIC_ID, Wanted(TOPIC))


def test_a_file_that_grew_since_it_was_looked_at_is_left_alone(scene: Scene) -> None:
    """A finisher merges into the first part: what it has put there is nowhere else."""
    path = scene.tree.finished(0)
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    found = find(scene.tree.store, scene.job, TOPIC_ID, Wanted(TOPIC))
    path.write_bytes(data + b"more")
    scene.store = scene.tree.store
    with pytest.raises(Stopped, match="somebody else"):
        repair.repair(scene.job, found, 1, lambda _: None)
    assert path.read_bytes() == data + b"more"
