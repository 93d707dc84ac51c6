"""What a fault happens to: servers behind proxies, a topic that is being fed, and two daemons of one group."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # not declared as exported
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from tests.e2e.bench import Bench, Case
from tests.e2e.daemon import Daemon, wait_until
from tests.e2e.generate import Feed
from tests.e2e.log import Log
from tests.stack import Stack, local
from tests.stack.kafka import admin
from tests.stack.pair import NAMESERVICE, Pair, client_settings, local_pair
from tests.stack.proxy import Proxy
from tests.stack.server import LOOPBACK, Reaper, Server

ADMIN_S = 20.0


@dataclass
class Servers:
    """Three brokers, HDFS with three DataNodes, and a proxy between logflume and each broker and NameNode."""

    stack: Stack
    rpc: list[Proxy]
    web: list[Proxy]
    brokers: list[Proxy]
    bootstrap: str
    reaper: Reaper
    pair: Pair | None = None

    def heal(self) -> None:
        for proxy in [*self.rpc, *self.web, *self.brokers]:
            proxy.heal()
        if self.pair is not None:
            self.pair.settle()
        self.stack.heal()

    def output(self, path: str) -> dict[str, Any]:
        """The table ``[output]`` of a daemon that writes below ``path``, through the proxies."""
        name = self.rpc[0].address if self.pair is None else NAMESERVICE
        options = client_settings([proxy.address for proxy in self.rpc]) if self.pair is not None else {}
        return {
            "root": f"hdfs://{name}{path}",
            "namenode_http": ";".join(f"http://{proxy.address}" for proxy in self.web),
            "user": "e2e",
            "options": options,
        }


@contextmanager
def servers(*, two_namenodes: bool = False) -> Iterator[Servers]:
    """Started for all runs of one program. With two NameNodes there is one broker."""
    with ExitStack() as stack:
        pair = stack.enter_context(local_pair()) if two_namenodes else None
        running = stack.enter_context(local(brokers=3)) if pair is None else pair.stack
        rpc, web = [running.namenode_rpc], [urlsplit(running.namenode_http).netloc]
        if pair is not None:
            rpc = [f"{LOOPBACK}:{node.rpc_port}" for node in pair.nodes]
            web = [f"{LOOPBACK}:{node.http_port}" for node in pair.nodes]
        assert running.kafka_cluster is not None
        brokers, bootstrap = stack.enter_context(running.kafka_cluster.proxies())
        reaper = Reaper()
        stack.callback(reaper.close)
        yield Servers(
            stack=running,
            rpc=[stack.enter_context(proxy_to(address)) for address in rpc],
            web=[stack.enter_context(proxy_to(address)) for address in web],
            brokers=brokers,
            bootstrap=bootstrap,
            reaper=reaper,
            pair=pair,
        )


def proxy_to(address: str) -> Proxy:
    host, port = address.rsplit(":", 1)
    return Proxy(host, int(port))


@dataclass
class Ground:
    """One run's things, as its fault needs them."""

    servers: Servers
    bench: Bench
    case: Case
    daemons: list[Daemon]
    feed: Feed
    more: list[list[Any]]  # chunks for a fault that has to send records of its own
    rng: random.Random
    disk: Path | None = None
    #: partitions that need a person
    affected: list[int] = field(default_factory=list)
    #: the log before records of it went away
    before: Log | None = None
    frozen: list[tuple[Daemon, list[int]]] = field(default_factory=list)

    @property
    def stack(self) -> Stack:
        return self.servers.stack

    @property
    def admin(self) -> AdminClient:
        return admin(self.stack.bootstrap)

    def broker(self, number: int) -> Server:
        return self.stack.kafka[number - 1]

    def leader(self, partition: int = 0) -> Server:
        return self.broker(self.replicas(partition)[0])

    def replicas(self, partition: int) -> list[int]:
        """Brokers in sync, the leader first; empty while there is none."""
        found = self.admin.list_topics(self.case.topic, timeout=ADMIN_S).topics[self.case.topic].partitions[partition]
        return [found.leader, *(one for one in found.isrs if one != found.leader)] if found.leader >= 0 else []

    def coordinator(self) -> Server:
        client, group = self.admin, self.case.topic
        node = client.describe_consumer_groups([group])[group].result(ADMIN_S).coordinator
        assert node is not None
        return self.broker(node.id)

    def namenode(self) -> Server:
        assert self.stack.namenode is not None
        return self.stack.namenode

    def daemon(self) -> Daemon:
        return self.rng.choice(self.daemons)

    def configure(self, **topic: str) -> None:
        """Settings of the topic, with _ for the dots."""
        entries = [
            ConfigEntry(name.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET)
            for name, value in topic.items()
        ]
        wanted = ConfigResource(ResourceType.TOPIC, self.case.topic, incremental_configs=entries)
        client = self.admin
        client.incremental_alter_configs([wanted])[wanted].result(ADMIN_S)

    def finish_feed(self) -> None:
        self.feed.hurry()
        self.feed.wait()

    def committed(self) -> dict[int, int]:
        """What the group has committed; {} while nobody answers."""
        consumer = Consumer({"bootstrap.servers": self.stack.bootstrap, "group.id": self.case.topic, "log_level": 0})
        try:
            asked = [TopicPartition(self.case.topic, partition) for partition in range(self.partitions)]
            return {one.partition: one.offset for one in consumer.committed(asked, timeout=5.0) if one.offset >= 0}
        except KafkaException:
            return {}  # asked again: the coordinator may be what the fault is about
        finally:
            consumer.close()

    @property
    def partitions(self) -> int:
        return len(self.admin.list_topics(self.case.topic, timeout=ADMIN_S).topics[self.case.topic].partitions)

    def wait_passed(self, marks: dict[int, int], timeout_s: float) -> None:
        def passed() -> bool:
            found = self.committed()
            return all(found.get(partition, 0) >= end for partition, end in marks.items())

        wait_until(passed, timeout_s, f"all daemons are beyond {marks}", *self.daemons)

    def start_of(self, partition: int) -> int:
        consumer = Consumer({"bootstrap.servers": self.stack.bootstrap, "group.id": "start", "log_level": 0})
        try:
            low, _ = consumer.get_watermark_offsets(TopicPartition(self.case.topic, partition), timeout=ADMIN_S)
        finally:
            consumer.close()
        return int(low)

    def freeze(self, *daemons: Daemon) -> None:
        self.frozen += [(daemon, daemon.freeze()) for daemon in daemons]

    def thaw(self) -> None:
        for daemon, workers in self.frozen:
            daemon.thaw(workers)
        self.frozen.clear()
