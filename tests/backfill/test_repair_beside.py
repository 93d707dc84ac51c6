"""A repair beside another one, or beside a compaction, on a host that no lock is shared with."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from logflume.backfill import repair
from logflume.backfill.look import Wanted, find
from logflume.backfill.rebuild import Rebuilt
from logflume.errors import Stopped
from logflume.store import Store
from tests.backfill.test_repair_left import files_of, same_bytes, uploads
from tests.backfill.test_repair_steps import Scene, check_of, quick_looks, scene, visible
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
