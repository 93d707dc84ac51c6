"""A test's topics, output trees and daemons in one place, and waiting for what they promise."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from tests.e2e.checker import check
from tests.e2e.daemon import Daemon, wait_until
from tests.e2e.generate import HOUR_MS, Feed, Made
from tests.e2e.log import Log, read_topic
from tests.e2e.oracle import Rules
from tests.e2e.report import Report
from tests.e2e.tree import LocalTree, Tree, WebTree
from tests.stack import Stack
from tests.stack.hadoop import webhdfs
from tests.stack.kafka import create_topic, delete_topics
from tests.stack.server import Reaper

COMPLETE_TIMEOUT_S = 150.0
#: quick enough for a test, and slow enough for two busy cores
GRACE_S = 5
TOPIC: dict[str, Any] = {
    "timestamp": {"field": "ts", "unit": "ms"},
    "lateness": "10m",
    "idle_grace": f"{GRACE_S}s",
    "roll_every": "1s",
}
NO_COORDINATOR = {
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
}
KAFKA: dict[str, Any] = {
    "session.timeout.ms": 4000,
    "heartbeat.interval.ms": 500,
    "topic.metadata.refresh.interval.ms": 1000,
}


class Case:
    """One topic in one output tree."""

    def __init__(self, bench: Bench, topic: str, tree: Tree, rules: Rules, settings: Mapping[str, Any]) -> None:
        self.bench, self.topic, self.tree, self.rules = bench, topic, tree, rules
        self.settings = {"name": topic, **TOPIC, **settings}

    def feed(self, chunks: list[list[Made]], seconds: float = 0.0, *, transactions: bool = False) -> Feed:
        return Feed(self.bench.stack.bootstrap, self.topic, chunks, seconds=seconds, transactions=transactions).start()

    def marked(self, hours: Iterable[int]) -> bool:
        return all(self.has(hour, "_SUCCESS") for hour in hours)

    def has(self, hour: int, name: str) -> bool:
        return any(node.name == name for node in self.tree.list(f"{self.topic}/{directory(hour, self.rules)}"))

    def wait_complete(self, hours: Iterable[int], *daemons: Daemon, timeout_s: float = COMPLETE_TIMEOUT_S) -> None:
        left = list(hours)

        def done() -> bool:
            while left and self.has(left[0], "_SUCCESS"):
                left.pop(0)
            return not left

        wait_until(done, timeout_s, f"hours of {self.topic} are complete", *daemons)

    def wait_committed(self, *daemons: Daemon, group: str, timeout_s: float = COMPLETE_TIMEOUT_S) -> Log:
        """Everything is decided, and Kafka was told; the group's offsets are compared with the log's ends."""
        log = self.log()
        ends = {partition: end for partition, end in log.ends.items() if end > 0}
        wait_until(
            lambda: self.bench.committed(group, self.topic, list(ends)) == ends,
            timeout_s,
            f"{self.topic}: committed {self.bench.committed(group, self.topic, list(ends))} is the end {ends}",
            *daemons,
        )
        return log

    def by_the_log(self, report: Report, feed: Feed) -> None:
        """Assert that no record is late only because of the clock, unless a starved host paused the feed."""
        assert report.late_by_clock == 0 or feed.longest_pause_s > GRACE_S - 1, (report, feed.longest_pause_s)

    def log(self) -> Log:
        return read_topic(self.bench.stack.bootstrap, self.topic)

    def check(self, log: Log | None = None) -> Report:
        return check(self.tree, log or self.log(), self.rules)


class Bench:
    """What one test has on the servers; ``name`` is in the names of its topics and its directory on HDFS."""

    def __init__(self, stack: Stack, name: str, folder: Path, reaper: Reaper) -> None:
        self.stack = stack
        self._name = f"{name[:80]}-{uuid.uuid4().hex[:6]}"
        self._hdfs_path = f"/logs/{self._name}"
        self._folder, self._reaper = folder, reaper
        self._topics: list[str] = []
        self._daemons: list[Daemon] = []
        self._trees: dict[str, Tree] = {}

    def path(self, below: str = "out") -> str:
        """Where on HDFS ``root`` is."""
        return f"{self._hdfs_path}/{below}"

    def root(self, scheme: str = "hdfs", below: str = "out") -> str:
        if scheme == "file":
            return f"file://{self._folder / below}"
        host = self.stack.namenode_rpc if scheme == "hdfs" else self.stack.namenode_http.removeprefix("http://")
        return f"{scheme}://{host}{self.path(below)}"

    def tree(self, root: str) -> Tree:
        if root not in self._trees:
            scheme, rest = root.split("://", 1)
            path = rest[rest.index("/") :]
            local = scheme == "file"
            self._trees[root] = LocalTree(path) if local else WebTree(self.stack.namenode_http, path)
        return self._trees[root]

    def case(
        self,
        root: str,
        partitions: int = 2,
        rules: Rules | None = None,
        topic_config: Mapping[str, str] | None = None,
        replicas: int = -1,
        **settings: Any,
    ) -> Case:
        """A new topic, to be written below ``root`` with these settings of its ``[[topic]]``."""
        name = f"{self._name}-{len(self._topics)}"
        topic = create_topic(self.stack.bootstrap, name, partitions, topic_config, replicas=replicas)
        self._topics.append(topic)
        return Case(self, topic, self.tree(root), rules or Rules(), settings)

    def daemon(
        self,
        name: str,
        root: str,
        cases: Iterable[Case],
        *,
        group: str | None = None,
        workers: int = 1,
        kafka: Mapping[str, Any] | None = None,
        user: str | None = None,
        output: Mapping[str, Any] | None = None,
        **daemon: Any,
    ) -> Daemon:
        """A daemon for these cases, not started yet. ``kafka`` may take options away with None, and ``output``
        has further keys of that table.
        """
        cases = list(cases)
        options: dict[str, Any] = {
            "bootstrap.servers": self.stack.bootstrap,
            "group.id": group or cases[0].topic,
            **KAFKA,
            **(kafka or {}),
        }
        merging = {"namenode_http": self.stack.namenode_http} if root.startswith("hdfs:") else {}
        config: dict[str, Any] = {
            "kafka": {key: value for key, value in options.items() if value is not None},
            "output": {"root": root, **merging, **({"user": user} if user else {}), **(output or {})},
            "daemon": {"workers": workers, "http": "", "log_format": "text", "stop_deadline": "20s", **daemon},
            "topic": [case.settings for case in cases],
        }
        folder = self._folder / name
        folder.mkdir()
        made = Daemon(folder, name, config, self._reaper)
        self._daemons.append(made)
        return made

    def committed(self, group: str, topic: str, partitions: list[int]) -> dict[int, int]:
        consumer = Consumer({"bootstrap.servers": self.stack.bootstrap, "group.id": group})
        try:
            found = consumer.committed([TopicPartition(topic, p) for p in partitions], timeout=20)
        except KafkaException as error:
            # a broker's first group: who coordinates it is still to be settled, so nobody has committed
            if error.args[0].code() not in NO_COORDINATOR:
                raise
            found = []
        finally:
            consumer.close()
        return {one.partition: one.offset for one in found if one.offset >= 0}

    def open(self) -> None:
        # permission apart: mkdirs applies it to what it creates only
        self.hdfs("MKDIRS")
        self.hdfs("SETPERMISSION", permission="777")

    def hdfs(self, operation: str, **query: str) -> None:
        """Do something to the test's directory on HDFS, as its owner and a superuser."""
        webhdfs(self.stack.namenode_http, "PUT", operation, self._hdfs_path, **query)

    def close(self) -> None:
        for daemon in self._daemons:
            daemon.end()
        for tree in self._trees.values():
            tree.close()
        delete_topics(self.stack.bootstrap, self._topics)
        webhdfs(self.stack.namenode_http, "DELETE", "DELETE", self._hdfs_path, recursive="true")


@contextmanager
def opened(bench: Bench) -> Iterator[Bench]:
    bench.open()
    try:
        yield bench
    finally:
        bench.close()


def directory(hour: int, rules: Rules) -> str:
    at = time.gmtime(hour // 1000)
    form = "dt=%Y-%m-%d/hour=%H%M" if rules.window_ms < HOUR_MS else "dt=%Y-%m-%d/hour=%H"
    return time.strftime(form, at)


def past(hours: int) -> int:
    """The start of an hour so many hours ago, in ms."""
    now = time.time_ns() // 1_000_000
    return now - now % HOUR_MS - hours * HOUR_MS


def span(base: int, hours: int, window_ms: int = HOUR_MS) -> range:
    """The windows of so many hours from ``base`` on."""
    return range(base, base + hours * HOUR_MS, window_ms)
