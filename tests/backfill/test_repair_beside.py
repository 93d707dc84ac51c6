"""A repair beside another one, or beside a compaction, on a host that no lock is shared with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from logflume import commit
from logflume.backfill import repair
from logflume.backfill.look import Wanted, find
from logflume.backfill.rebuild import Rebuilt
from logflume.compact.plan import Wish
from logflume.compact.record import Place
from logflume.compact.run import Job as Compaction
from logflume.compact.run import compact
from logflume.core import layout
from logflume.errors import Stopped
from logflume.model import HOUR_MS, Kind, PartitionId
from logflume.reconcile.findings import What
from logflume.reconcile.run import reconcile
from logflume.store import Store
from logflume.store.local import LocalStore
from tests.backfill.test_repair_left import decide_late, files_of, late_job, late_lines, same_bytes, uploads
from tests.backfill.test_repair_steps import Scene, check_of, parts_of, quick_looks, scene, visible
from tests.compact.faults import OPENED, Concats, Died, dying
from tests.reconcile.conftest import run_of
from tests.reconcile.tree import TOPIC, TOPIC_ID, flip

__all__ = ["quick_looks", "scene"]  # fixtures


def before_rebuild(monkeypatch: pytest.MonkeyPatch, scene: Scene, number: int, act: Callable[[], Any]) -> None:
    """``act``, by somebody else, just before the part ``number`` is made again."""
    calls = iter(range(1_000))

    def rebuild(*args: Any) -> Rebuilt:
        if next(calls) == number:
            act()
        return scene.rebuild(*args)

    monkeypatch.setattr(repair, "rebuild", rebuild)


def before_leaving(monkeypatch: pytest.MonkeyPatch, store: Store, path: Path, act: Callable[[], Any]) -> None:
    """``act``, by somebody else, just before the file is taken from its place."""
    acts = [act]

    def first(call: Callable[..., Any]) -> Callable[..., Any]:
        def called(source: str, *args: str) -> Any:
            if source == str(path) and acts:
                acts.pop()()
            return call(source, *args)

        return called

    monkeypatch.setattr(store, "delete", first(store.delete))
    monkeypatch.setattr(store, "publish", first(store.publish))


def before_arriving(monkeypatch: pytest.MonkeyPatch, store: Store, path: Path, act: Callable[[], Any]) -> None:
    """``act``, by somebody else, just before a file is put there."""
    publish, acts = store.publish, [act]

    def published(tmp: str, final: str) -> None:
        if final == str(path) and acts:
            acts.pop()()
        publish(tmp, final)

    monkeypatch.setattr(store, "publish", published)


def trim(store: Store, pid: PartitionId) -> None:
    """As ledger_retention does: all but the newest entry."""
    head = commit.read_head(store, pid)
    assert head is not None
    for seq in range(head.entry.seq):
        store.delete(f"{store.root}/{layout.entry_path(pid, seq)}")


# -- another repair -------------------------------------------------------------------------------


def test_a_repair_that_does_everything_meanwhile_leaves_the_files_whole(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = scene.tree
    scene.store = tree.store
    check = check_of(scene, visible(tree.store))
    for file in files_of(tree)[:2]:
        flip(tree.path(tree.hour(0)) / file.name)
    found = find(tree.store, scene.job, TOPIC_ID, Wanted(TOPIC))
    assert len(found.mends) == 2
    # the first file is uploaded, the second one is not
    before_rebuild(monkeypatch, scene, 1, lambda: scene.run(tree.store))
    with suppress(Stopped):
        repair.repair(scene.job, found, 1, lambda _: None)
    check(tree.store)
    scene.run(tree.store)
    assert uploads(tree.store) == []


@same_bytes
def test_a_file_that_another_repair_put_in_the_last_moment_stays(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the last look and the rename; and our upload was removed, as is right for a file that is whole."""
    tree = scene.tree
    scene.store = store = tree.store
    check = check_of(scene, visible(store))
    path = tree.path(tree.hour(0)) / files_of(tree)[0].name
    data = path.read_bytes()
    flip(path)

    def other() -> None:
        path.write_bytes(data)
        for upload in uploads(store):
            upload.unlink()

    found = find(store, scene.job, TOPIC_ID, Wanted(TOPIC))
    before_leaving(monkeypatch, store, path, other)
    repair.repair(scene.job, found, 1, lambda _: None)
    check(store)
    assert uploads(store) == []


# -- a compaction ---------------------------------------------------------------------------------


@pytest.fixture(params=[LocalStore, Concats], ids=["copying", "concat"])
def late(scene: Scene, request: pytest.FixtureRequest) -> Path:
    """A late file; its directory is ready to be compacted."""
    decide_late(scene.tree)
    scene.bytes = parts_of(scene.tree)
    scene.store = scene.tree.store = request.param(scene.tree.store.root)
    return min(scene.tree.path(scene.tree.hour(0, Kind.LATE)).glob("p*"))


by_concat = pytest.mark.parametrize("late", [Concats], indirect=True, ids=["concat"])


def compacted(scene: Scene) -> None:
    assert "compacted" in [one.state for one in compact(scene.store, late_job())]


def check_late(scene: Scene, before: Counter[bytes]) -> None:
    for _ in range(2):
        scene.run(scene.store)
        compact(scene.store, late_job())
        assert late_lines(scene.store, scene.tree) == before
    report = reconcile(run_of(scene.tree, full=True, deep=True))
    # uploads of a compaction that died
    assert [one for one in report.findings if one.what is not What.TMP_LEFT] == []


@by_concat
@same_bytes
def test_a_damaged_late_file_that_was_compacted_since_is_mended_where_it_is_now(scene: Scene, late: Path) -> None:
    before = late_lines(scene.store, scene.tree)
    flip(late)
    found = find(scene.store, scene.job, TOPIC_ID, Wanted(TOPIC))
    assert found.mends
    compacted(scene)
    with pytest.raises(Stopped, match="was merged"):
        repair.repair(scene.job, found, 1, lambda _: None)
    assert not late.exists()
    check_late(scene, before)


@same_bytes
@pytest.mark.parametrize("moment", ["look", "last look"])
def test_a_late_file_that_came_back_and_was_compacted_since_is_not_put_beside_it(
    scene: Scene, late: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Another host has mended it; what this one made is the same records once more."""
    before, data = late_lines(scene.store, scene.tree), late.read_bytes()
    late.unlink()
    found = find(scene.store, scene.job, TOPIC_ID, Wanted(TOPIC))

    def others() -> None:
        late.write_bytes(data)
        compacted(scene)

    if moment == "look":
        before_rebuild(monkeypatch, scene, 0, others)
    else:
        before_arriving(monkeypatch, scene.store, late, others)
    with pytest.raises(Stopped, match="was merged"):
        repair.repair(scene.job, found, 1, lambda _: None)
    assert late_lines(scene.store, scene.tree) == before
    assert [one.read_bytes() for one in uploads(scene.store)] == [data]
    check_late(scene, before)


@pytest.mark.parametrize("moment", ["look", "last look"])
@OPENED
def test_a_file_of_an_hour_that_came_back_and_was_compacted_since_is_not_put_beside_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, moment: str, opened: Callable[[str], Store]
) -> None:
    scene.store = scene.tree.store = store = opened(scene.tree.store.root)
    file = files_of(scene.tree)[0]
    path = scene.tree.path(scene.tree.hour(0)) / file.name
    data = path.read_bytes()
    path.unlink()
    found = find(store, scene.job, TOPIC_ID, Wanted(TOPIC))
    after: list[dict[str, bytes]] = []

    def others() -> None:
        path.write_bytes(data)
        assert compact(store, Compaction(TOPIC, TOPIC_ID, HOUR_MS, Wish(1 << 30), (Place.HOUR,)))
        after.append(visible(store))

    if moment == "look":
        before_rebuild(monkeypatch, scene, 0, others)
    else:
        before_arriving(monkeypatch, store, path, others)
    with suppress(Stopped):
        repair.repair(scene.job, found, 1, lambda _: None)
    assert visible(store) == after[0]
    scene.run(store)
    check_of(scene, after[0])(store)
    assert reconcile(run_of(scene.tree, full=True, deep=True)).exit_code in (0, 10)


@by_concat
@same_bytes
def test_a_late_file_that_a_compaction_still_has_to_take_is_mended(scene: Scene, late: Path) -> None:
    """By concat, a file at a time: those that it has not come to are needed."""
    store = scene.store
    before = late_lines(store, scene.tree)
    flip(late)
    found = find(store, scene.job, TOPIC_ID, Wanted(TOPIC))
    for number in range(20):
        with suppress(Died):
            compact(dying(store, number), late_job())
        if list(Path(store.root).rglob("compactions/late/*/000000.json")):
            break
    assert late.exists()
    repair.repair(scene.job, found, 1, lambda _: None)
    check_late(scene, before)


@same_bytes
@pytest.mark.parametrize("retained", [True, False], ids=["retained", "past ledger_retention"])
def test_reconcile_says_a_late_file_whose_records_a_merged_file_has_too(
    scene: Scene, late: Path, *, retained: bool
) -> None:
    store = scene.store
    data = late.read_bytes()
    compacted(scene)
    assert reconcile(run_of(scene.tree, full=True)).findings == []
    late.write_bytes(data)
    if not retained:
        for ingest in scene.tree.ingests:
            trim(store, ingest.pid)
    report = reconcile(run_of(scene.tree, full=True, repair=True))
    found = [one for one in report.findings if one.what is What.FILE_UNKNOWN]
    assert [one.path for one in found] == [str(late.relative_to(store.root))]
    assert "app-c000000-" in found[0].detail
    assert late.exists()
