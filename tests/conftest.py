"""Fixtures for every test: real servers, topics, HDFS directories.

A test that uses `stack` (also through another fixture) gets the marker `servers`.
"""

from __future__ import annotations

import itertools
import os
import re
import signal
import uuid
from collections.abc import Iterator, Mapping
from typing import Protocol

import pytest

from tests.stack import ServersMissing, Stack, local, local_kafka, obtain
from tests.stack.hadoop import webhdfs
from tests.stack.kafka import KafkaCluster, create_topic, delete_topics
from tests.stack.stack import VARIABLES

SERVER_FIXTURES = {"stack", "own_stack", "kafka_cluster", "topic_factory", "hdfs_root"}

# Names differ between runs too, since a stack may live longer than one run.
RUN = uuid.uuid4().hex[:6]
_numbers = itertools.count(1)


def pytest_configure() -> None:
    # A shell without job control starts what it puts into the background with Ctrl-C ignored, and every process that a
    # test starts would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)  # before `-m` selects by markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function) and SERVER_FIXTURES.intersection(item.fixturenames):
            item.add_marker(pytest.mark.servers)
    # Files that take minutes first: at the end one of two processes had nothing left to do.
    long = {item.path for item in items if item.get_closest_marker("servers") or item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in long)


def unavailable(error: ServersMissing) -> BaseException:
    """What to raise: a skip, or a failure where servers are required (LOGFLUME_REQUIRE_SERVERS=1)."""
    if os.environ.get("LOGFLUME_REQUIRE_SERVERS") == "1":
        return pytest.fail.Exception(f"LOGFLUME_REQUIRE_SERVERS=1, but {error}", pytrace=False)
    return pytest.skip.Exception(str(error))


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """Running servers, from the first source that tests.stack.obtain() finds. Leave them running."""
    try:
        with obtain() as found:
            yield found
    except ServersMissing as error:
        raise unavailable(error) from None


@pytest.fixture(scope="session")
def _own_stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    if not any(variable in os.environ for variable in VARIABLES.values()):
        found: Stack = request.getfixturevalue("stack")
        if found.owned:
            yield found
            return
    try:
        with local() as found:
            yield found
    except ServersMissing as error:
        raise unavailable(error) from None


@pytest.fixture
def own_stack(_own_stack: Stack) -> Iterator[Stack]:
    """Servers that a test may kill, pause and restart; whatever it did is undone after it.

    The same as `stack` where that consists of our own processes. Where environment variables name
    servers, those belong to somebody else, so this starts further ones.
    """
    yield _own_stack
    _own_stack.heal()


@pytest.fixture(scope="module")
def kafka_cluster() -> Iterator[KafkaCluster]:
    """Three Kafka brokers of the module's own, to kill and pause. About 10 s to start."""
    try:
        with local_kafka(brokers=3) as cluster:
            yield cluster
    except ServersMissing as error:
        raise unavailable(error) from None


def stack_of(request: pytest.FixtureRequest) -> Stack:
    """The stack that the test works on: its own if it asked for one."""
    name = "own_stack" if "own_stack" in request.fixturenames else "stack"
    found: Stack = request.getfixturevalue(name)
    return found


class TopicFactory(Protocol):
    """Creates a topic and returns its name, which no other test has used."""

    def __call__(
        self,
        partitions: int = 1,
        config: Mapping[str, str] | None = None,
        *,
        bootstrap: str | None = None,
    ) -> str:
        """`retention.ms` is -1 unless `config` has it; `bootstrap` None means the test's stack."""


def unique_name(request: pytest.FixtureRequest) -> str:
    """`<testname>-<run>-<n>`, safe in paths and topic names."""
    test = re.sub(r"[^A-Za-z0-9_]+", "-", request.node.name).strip("-")[:120]
    return f"{test}-{RUN}-{next(_numbers)}"


@pytest.fixture
def topic_factory(request: pytest.FixtureRequest) -> Iterator[TopicFactory]:
    """See TopicFactory. The topics are deleted after the test, if their brokers still answer."""
    created: dict[str, list[str]] = {}

    def make(
        partitions: int = 1,
        config: Mapping[str, str] | None = None,
        *,
        bootstrap: str | None = None,
    ) -> str:
        where = bootstrap or stack_of(request).bootstrap
        name = create_topic(where, unique_name(request), partitions, config)
        created.setdefault(where, []).append(name)
        return name

    yield make
    for where, names in created.items():
        delete_topics(where, names)


@pytest.fixture
def hdfs_root(request: pytest.FixtureRequest) -> Iterator[str]:
    """A fresh, empty, world-writable HDFS directory `/logs/<testname>-<run>-<n>`, removed after."""
    http = stack_of(request).namenode_http
    path = f"/logs/{unique_name(request)}"
    webhdfs(http, "PUT", "MKDIRS", path)
    webhdfs(http, "PUT", "SETPERMISSION", path, permission="777")
    yield path
    webhdfs(http, "DELETE", "DELETE", path, recursive="true")
