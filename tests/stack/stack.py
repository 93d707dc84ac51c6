"""The servers that tests run on, whoever provides them: see obtain()."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.stack import containers
from tests.stack.hadoop import hdfs, wait_live_datanodes, webhdfs
from tests.stack.jars import missing_tools
from tests.stack.kafka import KafkaCluster, kafka
from tests.stack.server import Server, Workspace, start_all
from tests.stack.zookeeper import zookeeper

# Field of Stack -> the environment variable that names a running server.
VARIABLES = {
    "bootstrap": "LOGFLUME_TEST_BOOTSTRAP",
    "namenode_rpc": "LOGFLUME_TEST_NAMENODE",
    "namenode_http": "LOGFLUME_TEST_NAMENODE_HTTP",
    "zookeeper": "LOGFLUME_TEST_ZOOKEEPER",
}

# World-writable in HDFS, so that a test may act as any user.
ROOT = "/logs"


class ServersMissing(RuntimeError):
    """No servers are named and none can be started; the text says what is missing, in one line."""


@dataclass(frozen=True)
class Stack:
    """Addresses of running servers, and the processes if they are this program's own.

    Tests that kill or pause servers need the processes: see `own_stack` in tests/conftest.py.
    """

    bootstrap: str  # "127.0.0.1:9092", with several brokers a comma-separated list
    namenode_rpc: str  # "127.0.0.1:8020"
    namenode_http: str  # "http://127.0.0.1:9870"
    zookeeper: str  # "127.0.0.1:2181"
    kafka: list[Server] = field(default_factory=list)
    kafka_cluster: KafkaCluster | None = None
    namenode: Server | None = None
    datanodes: list[Server] = field(default_factory=list)
    zk: Server | None = None
    standby: Server | None = None  # the other NameNode of a pair, whichever is active
    journal: Server | None = None

    @property
    def owned(self) -> bool:
        """Whether the servers are this program's own processes."""
        return self.namenode is not None

    @property
    def hdfs_url(self) -> str:
        """`hdfs://127.0.0.1:8020`."""
        return f"hdfs://{self.namenode_rpc}"

    @property
    def servers(self) -> list[Server]:
        """Every process of it; empty unless `owned`."""
        return [
            *self.kafka,
            *([self.journal] if self.journal else []),
            *([self.namenode] if self.namenode else []),
            *([self.standby] if self.standby else []),
            *self.datanodes,
            *([self.zk] if self.zk else []),
        ]

    def heal(self) -> None:
        """Undo what a test did: resume what is paused, start what is down, wait for all of it."""
        for server in self.servers:
            if server.running:
                server.resume()
            else:
                server.start()
        for server in self.servers:
            server.wait_ready()
        if self.datanodes:
            wait_live_datanodes(self.namenode_http, len(self.datanodes))

    def exports(self) -> str:
        """Shell lines that make a later test run use these servers."""
        return "".join(f"export {variable}={getattr(self, name)}\n" for name, variable in VARIABLES.items())


@contextmanager
def obtain() -> Iterator[Stack]:
    """The servers for a test run, from the first source there is; ended afterwards if started here.

    1. the environment variables in VARIABLES (all of them) name running servers
    2. a Docker engine answers: containers
    3. `java` and `mvn` are on PATH: local processes

    Raises ServersMissing if there is none, StartError or JarsError if the start fails.
    """
    external = from_environment()
    if external is not None:
        make_root(external)
        yield external
    elif containers.engine_answers():
        with containers.running() as addresses:
            stack = at(addresses)
            wait_live_datanodes(stack.namenode_http, containers.DATANODES)
            make_root(stack)
            yield stack
    else:
        with local() as stack:
            yield stack


def from_environment() -> Stack | None:
    """The stack that environment variables name, or None if none is set.

    Raises ServersMissing if only some are: tests must not run on half of what was meant.
    """
    given = {name: os.environ.get(variable, "") for name, variable in VARIABLES.items()}
    if not any(given.values()):
        return None
    unset = [VARIABLES[name] for name, value in given.items() if not value]
    if unset:
        raise ServersMissing(f"servers are named only in part: set {', '.join(unset)} too")
    return at(given)


def at(addresses: Mapping[str, str]) -> Stack:
    """The stack of servers that run elsewhere, from its addresses by field name."""
    return Stack(
        bootstrap=addresses["bootstrap"],
        namenode_rpc=addresses["namenode_rpc"],
        namenode_http=addresses["namenode_http"],
        zookeeper=addresses["zookeeper"],
    )


@contextmanager
def local(brokers: int = 1) -> Iterator[Stack]:
    """All servers as local processes, started at once; about 20 s on two cores."""
    require_tools()
    with workspace() as space:
        cluster = kafka(space, brokers)
        files = hdfs(space)
        zk, zookeeper_address = zookeeper(space)
        with running([*cluster.servers, files.namenode, *files.datanodes, zk]):
            wait_live_datanodes(files.namenode_http, len(files.datanodes))
            stack = Stack(
                bootstrap=cluster.bootstrap,
                namenode_rpc=files.namenode_rpc,
                namenode_http=files.namenode_http,
                zookeeper=zookeeper_address,
                kafka=cluster.servers,
                kafka_cluster=cluster,
                namenode=files.namenode,
                datanodes=files.datanodes,
                zk=zk,
            )
            make_root(stack)
            yield stack


@contextmanager
def local_kafka(brokers: int = 3) -> Iterator[KafkaCluster]:
    """A Kafka cluster of its own, without HDFS and ZooKeeper."""
    require_tools()
    with workspace() as space:
        cluster = kafka(space, brokers)
        with running(cluster.servers):
            yield cluster


def require_tools() -> None:
    """Raise ServersMissing unless local servers can be started."""
    tools = missing_tools()
    if tools:
        raise ServersMissing(
            f"no servers: {' and '.join(tools)} not on PATH, no Docker engine answers, "
            f"and {VARIABLES['bootstrap']} etc. are not set"
        )


@contextmanager
def workspace() -> Iterator[Workspace]:
    """A temporary directory for servers, removed afterwards."""
    space = Workspace()
    try:
        yield space
    finally:
        space.close()


@contextmanager
def running(servers: list[Server]) -> Iterator[None]:
    """Start all servers at once, and kill them afterwards: their data goes anyway."""
    try:
        start_all(servers)
        yield
    finally:
        for server in servers:
            server.close()


def make_root(stack: Stack) -> None:
    """Make ROOT, and let everybody write there."""
    # Permission must be set apart: mkdirs applies it to what it creates only.
    webhdfs(stack.namenode_http, "PUT", "MKDIRS", ROOT)
    webhdfs(stack.namenode_http, "PUT", "SETPERMISSION", ROOT, permission="777")
