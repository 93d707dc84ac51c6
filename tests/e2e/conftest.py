"""What every end-to-end test works with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import TopicFactory, stack_of, unique_name
from tests.e2e.bench import Bench
from tests.stack import Stack
from tests.stack.hadoop import webhdfs
from tests.stack.server import Reaper


@pytest.fixture(scope="session")
def reaper() -> Iterator[Reaper]:
    """Ends daemons whose test run was killed."""
    made = Reaper()
    yield made
    made.close()


@pytest.fixture
def bench(
    request: pytest.FixtureRequest, stack: Stack, topic_factory: TopicFactory, hdfs_root: str, tmp_path: Path, reaper: Reaper
) -> Iterator[Bench]:
    """Topics, output roots and daemons on the session's servers."""
    made = Bench(stack, topic_factory, hdfs_root, tmp_path, reaper)
    yield made
    made.close()


@pytest.fixture
def own_bench(
    request: pytest.FixtureRequest, own_stack: Stack, topic_factory: TopicFactory, tmp_path: Path, reaper: Reaper
) -> Iterator[Bench]:
    """The same on servers that the test may kill."""
    assert stack_of(request) is own_stack
    root = f"/logs/{unique_name(request)}"
    webhdfs(own_stack.namenode_http, "PUT", "MKDIRS", root)
    webhdfs(own_stack.namenode_http, "PUT", "SETPERMISSION", root, permission="777")
    made = Bench(own_stack, topic_factory, root, tmp_path, reaper)
    yield made
    made.close()
