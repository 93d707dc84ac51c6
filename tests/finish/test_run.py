"""Carrying plans out where settings, or an operator, have changed something on the way."""

from __future__ import annotations

import gzip
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from logflume.finish import run
from logflume.finish.follow import TopicFollower
from logflume.model import HOUR_MS
from logflume.store.local import LocalStore
from tests.reconcile.tree import FIRST_HOUR, TOPIC, TOPIC_ID, Tree
from tests.sim.gates import ConcatStore


@pytest.mark.parametrize("kind", [LocalStore, ConcatStore])
def test_hidden_parts_of_an_hour_that_is_finished_early_are_shown(tmp_path: Path, kind: type[LocalStore]) -> None:
    """``reveal`` was changed, or is another on the host with partition 0: ``_SUCCESS`` stood beside hidden records."""
    tree = Tree(tmp_path, settings={"reveal": "complete"}).fill(1, finish=False)
    store = kind(str(tmp_path / "root"))
    with ThreadPoolExecutor(2) as pool:
        follower = TopicFollower(store, TOPIC, TOPIC_ID, tree.topic.model_copy(update={"reveal": "early"}))
        follower.refresh(pool)
        (plan,) = follower.due(10)
    assert run.finish(store, plan) is not None
    names = {path.name: path for path in tree.path(tree.hour(0)).iterdir()}
    assert not [name for name in names if name.startswith("_") and name != "_SUCCESS"]
    records = sum(len(gzip.decompress(path.read_bytes()).splitlines()) for n, path in names.items() if n != "_SUCCESS")
    assert records == sum(part.count for file in plan.files for part in file.parts) == 24


def test_a_late_record_of_an_hour_whose_directory_was_removed_is_shown(tmp_path: Path) -> None:
    """Old days are removed by whoever owns the data; without a marker there, nobody would ever have shown it."""
    tree = Tree(tmp_path, settings={"late": "append"}).fill(3, late=False)
    shutil.rmtree(tree.path(tree.hour(0)))
    tree.ingests[0].feed([FIRST_HOUR + 1, FIRST_HOUR + 4 * HOUR_MS + 120_000])
    tree.ingests[0].decide(everything=True)
    assert [path.name[0] for path in tree.path(tree.hour(0)).iterdir()] == ["a"]
