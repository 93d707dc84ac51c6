"""A reconcile of a tree, without patience: nothing is under way in a test but where it says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from logflume.reconcile import topic
from logflume.reconcile.model import Options
from logflume.reconcile.run import Report, Run, reconcile
from tests.reconcile.tree import Tree

Reconcile = Callable[..., Report]

CONFIG_PATH = "logflume.toml"


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topic, "PAUSE_S", 0.01)


def run_of(tree: Tree, **options: Any) -> Run:
    wanted = replace(Options(patience_ms=0, grace_ms=0), **options)
    return Run(tree.store, tree.config, CONFIG_PATH, wanted)


@pytest.fixture
def reconciled() -> Reconcile:
    return lambda tree, **options: reconcile(run_of(tree, **options))


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Four finished hours of two partitions, with late and bad records, and a fifth hour begun."""
    return Tree(tmp_path).fill(4)
