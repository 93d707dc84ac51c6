"""What several of these tests need."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.enumerate import directory
from tests.sim.host import played
from tests.sim.world import Clock


@pytest.fixture
def root() -> Iterator[Path]:
    """A new directory for a tree, while the daemon's modules have a played clock."""
    where = directory()
    with played(Clock()):
        yield where
    shutil.rmtree(where.parent)
