"""What every end-to-end test works with."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import cast

import pytest

from tests.e2e.bench import Bench, opened
from tests.stack import Stack
from tests.stack.server import Reaper


@pytest.fixture(scope="session")
def reaper() -> Iterator[Reaper]:
    """Ends daemons whose test run was killed."""
    made = Reaper()
    yield made
    made.close()


def _name(request: pytest.FixtureRequest) -> str:
    return re.sub(r"[^A-Za-z0-9_]+", "-", request.node.name).strip("-")


@pytest.fixture
def bench(request: pytest.FixtureRequest, stack: Stack, tmp_path: Path, reaper: Reaper) -> Iterator[Bench]:
    """Topics, output roots and daemons on the session's servers."""
    with opened(Bench(stack, _name(request), tmp_path, reaper)) as made:
        yield made


@pytest.fixture
def own_bench(request: pytest.FixtureRequest, own_stack: Stack, tmp_path: Path, reaper: Reaper) -> Iterator[Bench]:
    """The same on servers that the test may kill."""
    with opened(Bench(own_stack, _name(request), tmp_path, reaper)) as made:
        yield made


@pytest.fixture(scope="module")
def scenarios(
    request: pytest.FixtureRequest, stack: Stack, tmp_path_factory: pytest.TempPathFactory, reaper: Reaper
) -> Iterator[Mapping[Callable[[Bench], None], Future[None]]]:
    """The module's scenarios that were selected, all started at once: they mostly wait."""
    chosen = [
        cast(Callable[[Bench], None], item.callspec.params["scenario"])
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.module is request.module
    ]

    def run(scenario: Callable[[Bench], None]) -> None:
        folder = tmp_path_factory.mktemp(scenario.__name__[:30])
        with opened(Bench(stack, scenario.__name__, folder, reaper)) as made:
            scenario(made)

    with ThreadPoolExecutor(max(1, len(chosen))) as pool:
        yield {scenario: pool.submit(run, scenario) for scenario in chosen}
