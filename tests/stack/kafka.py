"""Kafka brokers (KRaft, each one also a controller) as local processes, and topics on them."""

from __future__ import annotations

import base64
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from tests.stack.jars import java
from tests.stack.proxy import Proxy
from tests.stack.server import LOOPBACK, POLL_S, Server, Workspace, accepts, free_port

ADMIN_TIMEOUT_S = 15.0

PROPERTIES = """\
process.roles=broker,controller
node.id={node}
controller.quorum.voters={voters}
listeners=PLAINTEXT://127.0.0.1:{port},PROXIED://127.0.0.1:{proxied_port},\
CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},PROXIED://127.0.0.1:{proxy_port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
num.network.threads=2
num.io.threads=4
auto.create.topics.enable=false
default.replication.factor={replicas}
min.insync.replicas={in_sync}
offsets.topic.replication.factor={replicas}
offsets.topic.num.partitions=5
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={in_sync}
transaction.state.log.num.partitions=5
share.coordinator.state.topic.replication.factor={replicas}
share.coordinator.state.topic.min.isr={in_sync}
# Both group protocols, with members that may be declared dead quickly.
group.coordinator.rebalance.protocols=classic,consumer
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
group.consumer.min.session.timeout.ms=1000
group.consumer.session.timeout.ms=6000
group.consumer.min.heartbeat.interval.ms=500
group.consumer.heartbeat.interval.ms=1000
# Retention, compaction and hung transactions act within seconds instead of minutes.
log.initial.task.delay.ms=500
log.retention.check.interval.ms=1000
log.segment.delete.delay.ms=1000
log.cleaner.backoff.ms=1000
log.cleaner.dedupe.buffer.size=16777216
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
# A dead broker is fenced, and leaves the in-sync replicas, within seconds.
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
replica.lag.time.max.ms=5000
"""

LOG4J2 = """\
<Configuration status="WARN">
  <Appenders>
    <Console name="console" target="SYSTEM_OUT">
      <PatternLayout pattern="%d{ISO8601} %p %c{1}: %m%n"/>
    </Console>
  </Appenders>
  <Loggers><Root level="INFO"><AppenderRef ref="console"/></Root></Loggers>
</Configuration>
"""


@dataclass(frozen=True)
class Node:
    """One broker's number and ports.

    A broker tells clients where to connect, so a proxy in between must be what it tells them: who
    connects through `proxied_port` is sent to `proxy_port`, where a proxy may listen.
    """

    number: int
    port: int = field(default_factory=free_port)
    controller_port: int = field(default_factory=free_port)
    proxied_port: int = field(default_factory=free_port)
    proxy_port: int = field(default_factory=free_port)


@dataclass(frozen=True)
class KafkaCluster:
    """Brokers, and where they answer."""

    servers: list[Server]
    nodes: list[Node]

    @property
    def bootstrap(self) -> str:
        """`127.0.0.1:port` of every broker, with commas."""
        return ",".join(f"{LOOPBACK}:{node.port}" for node in self.nodes)

    @contextmanager
    def proxies(self) -> Iterator[tuple[list[Proxy], str]]:
        """A proxy before each broker, and the bootstrap list through them. One use at a time."""
        with ExitStack() as stack:
            opened = [
                stack.enter_context(Proxy(LOOPBACK, node.proxied_port, port=node.proxy_port)) for node in self.nodes
            ]
            yield opened, ",".join(proxy.address for proxy in opened)


def kafka(workspace: Workspace, brokers: int = 1) -> KafkaCluster:
    """A cluster of `brokers` (1 or 3), none of them started."""
    nodes = [Node(number) for number in range(1, brokers + 1)]
    cluster_id = new_cluster_id()
    servers = []
    for node in nodes:
        folder = workspace.path / f"kafka-{node.number}"
        folder.mkdir()
        write_config(folder, node, nodes, folder / "data")
        servers.append(_server(workspace, folder, node, cluster_id))
    return KafkaCluster(servers, nodes)


def new_cluster_id() -> str:
    """A random id in the form that Kafka's format tool takes."""
    while True:
        # A leading dash would be read as an option.
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):
            return text


def write_config(folder: Path, node: Node, nodes: list[Node], data: Path) -> None:
    """Write server.properties and log4j2.xml of one broker into `folder`."""
    replicas = min(3, len(nodes))
    text = PROPERTIES.format(
        node=node.number,
        port=node.port,
        controller_port=node.controller_port,
        proxied_port=node.proxied_port,
        proxy_port=node.proxy_port,
        voters=",".join(f"{n.number}@{LOOPBACK}:{n.controller_port}" for n in nodes),
        data=data,
        replicas=replicas,
        in_sync=max(1, replicas - 1),  # of three brokers any one may be down
    )
    (folder / "server.properties").write_text(text)
    (folder / "log4j2.xml").write_text(LOG4J2)


def _server(workspace: Workspace, folder: Path, node: Node, cluster_id: str) -> Server:
    properties = str(folder / "server.properties")
    flags = (f"-Dlog4j2.configurationFile={folder / 'log4j2.xml'}",)

    def probe() -> str | None:
        if not accepts(node.port):
            return f"nothing listens on port {node.port}"
        return None if _is_member(node) else f"broker {node.number} is not in the cluster"

    return Server(
        f"kafka-{node.number}",
        java("kafka", "kafka.Kafka", properties, heap_mib=512, flags=flags),
        prepare=java(
            "kafka",
            "kafka.tools.StorageTool",
            *("format", "-t", cluster_id, "-c", properties),
            heap_mib=128,
            flags=flags,
        ),
        workspace=workspace,
        probe=probe,
    )


def _is_member(node: Node) -> bool:
    try:
        metadata = admin(f"{LOOPBACK}:{node.port}").list_topics(timeout=2)
    except KafkaException:
        return False  # still starting: asked again until the deadline
    return node.number in metadata.brokers


def admin(bootstrap: str) -> AdminClient:
    """An admin client that keeps its connection troubles to itself (they raise anyway)."""
    return AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})


def create_topic(
    bootstrap: str,
    name: str,
    partitions: int = 1,
    config: Mapping[str, str] | None = None,
    *,
    replicas: int = -1,
) -> str:
    """Create a topic, wait until every partition has a leader, return its name. ``replicas`` -1: the brokers' default.

    `retention.ms` is -1 unless given: event times in the past are retention times too, and the
    broker would drop such segments within seconds. Raises KafkaException or TimeoutError.
    """
    settings = {"retention.ms": "-1", **(config or {})}
    wanted = NewTopic(name, num_partitions=partitions, replication_factor=replicas, config=settings)
    for attempt in range(3):
        # A broker that was paused knows no controller for a moment; a client that asks in it waits for one in vain, and
        # the next one finds it (seen once, at a load of 15).
        client = admin(bootstrap)
        try:
            client.create_topics([wanted], operation_timeout=ADMIN_TIMEOUT_S)[name].result(ADMIN_TIMEOUT_S)
            break
        except TimeoutError:
            if attempt == 2:
                raise
        except KafkaException as failure:
            # made by the attempt before, whose answer did not come
            if attempt == 0 or failure.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
            break
    deadline = time.monotonic() + ADMIN_TIMEOUT_S
    while True:
        found = client.list_topics(timeout=ADMIN_TIMEOUT_S).topics.get(name)
        if (
            found is not None
            and len(found.partitions) == partitions
            and all(p.leader >= 0 for p in found.partitions.values())
        ):
            return name
        if time.monotonic() > deadline:
            raise TimeoutError(f"topic {name} has no leaders after {ADMIN_TIMEOUT_S:g} s")
        time.sleep(POLL_S)


def delete_topics(bootstrap: str, names: list[str]) -> None:
    """Delete topics; one that is gone already is no error. Raises KafkaException."""
    if not names:
        return
    client = admin(bootstrap)
    existing = set(client.list_topics(timeout=ADMIN_TIMEOUT_S).topics)
    wanted = [name for name in names if name in existing]
    if wanted:
        for future in client.delete_topics(wanted, operation_timeout=ADMIN_TIMEOUT_S).values():
            future.result(ADMIN_TIMEOUT_S)
