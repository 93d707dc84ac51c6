"""The servers themselves: what later tests take for granted, and that faults can be made."""

from __future__ import annotations

import sys
import time
import urllib.error
from collections.abc import Callable

import hdfs_native
import pytest
from confluent_kafka import Consumer, KafkaError, Message, Producer
from hdfs import InsecureClient  # type: ignore[import-untyped]
from kazoo.client import KazooClient  # type: ignore[import-untyped]

from tests.conftest import TopicFactory
from tests.stack import Stack
from tests.stack.hadoop import dfsadmin, wait_live_datanodes, webhdfs
from tests.stack.server import POLL_S, Server, StartError, Workspace

RECORDS = 100
PATIENCE_S = 60.0


def eventually(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE_S:g} s: {what}"
        time.sleep(POLL_S)


def produce(bootstrap: str, topic: str, count: int = RECORDS) -> None:
    failures: list[KafkaError] = []

    def delivered(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            failures.append(error)

    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", "log_level": 0})
    for number in range(count):
        producer.produce(topic, str(number).encode(), on_delivery=delivered)
    assert producer.flush(PATIENCE_S) == 0
    assert not failures


def consume(bootstrap: str, topic: str, protocol: str, count: int = RECORDS) -> set[int]:
    settings: dict[str, str | int] = {
        "bootstrap.servers": bootstrap,
        "group.id": f"{topic}-{protocol}",
        "group.protocol": protocol,
        "auto.offset.reset": "earliest",
    }
    if protocol == "classic":
        settings |= {"session.timeout.ms": 3000, "heartbeat.interval.ms": 500}
    consumer = Consumer(settings)
    try:
        consumer.subscribe([topic])
        found: set[int] = set()
        deadline = time.monotonic() + PATIENCE_S
        while len(found) < count and time.monotonic() < deadline:
            for message in consumer.consume(count, 0.2):
                assert message.error() is None, message.error()
                value = message.value()
                assert value is not None
                found.add(int(value))
        return found
    finally:
        consumer.close()


def write(stack: Stack, path: str, data: bytes) -> None:
    with hdfs_native.Client(stack.hdfs_url).create(path) as writer:
        writer.write(data)


def read(stack: Stack, path: str) -> bytes:
    with hdfs_native.Client(stack.hdfs_url).read(path) as reader:
        return bytes(reader.read())


def located(stack: Stack, path: str) -> list[list[str]]:
    """The DataNodes of each block, as the NameNode knows them."""
    reply = webhdfs(stack.namenode_http, "GET", "GETFILEBLOCKLOCATIONS", path)
    return [block["names"] for block in reply["BlockLocations"]["BlockLocation"]]


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_records_come_back_in_both_group_protocols(stack: Stack, topic_factory: TopicFactory, protocol: str) -> None:
    topic = topic_factory(partitions=3)
    produce(stack.bootstrap, topic)
    assert consume(stack.bootstrap, topic, protocol) == set(range(RECORDS))


def test_hdfs_native_writes_renames_and_reads(stack: Stack, hdfs_root: str) -> None:
    write(stack, f"{hdfs_root}/a", b"data")
    hdfs_native.Client(stack.hdfs_url).rename(f"{hdfs_root}/a", f"{hdfs_root}/b")
    assert read(stack, f"{hdfs_root}/b") == b"data"


def test_the_hdfs_package_writes_renames_and_reads(stack: Stack, hdfs_root: str) -> None:
    client = InsecureClient(stack.namenode_http, user="somebody", timeout=30)
    client.write(f"{hdfs_root}/a", data=b"data")
    client.rename(f"{hdfs_root}/a", f"{hdfs_root}/b")
    with client.read(f"{hdfs_root}/b") as reader:
        assert reader.read() == b"data"


def test_concat_through_webhdfs_joins_files(stack: Stack, hdfs_root: str) -> None:
    for name in ("a", "b", "c"):
        write(stack, f"{hdfs_root}/{name}", name.encode())
    sources = f"{hdfs_root}/b,{hdfs_root}/c"
    webhdfs(stack.namenode_http, "POST", "CONCAT", f"{hdfs_root}/a", sources=sources)
    assert read(stack, f"{hdfs_root}/a") == b"abc"


def test_permissions_are_enforced(stack: Stack, hdfs_root: str) -> None:
    http = stack.namenode_http
    webhdfs(http, "PUT", "SETPERMISSION", hdfs_root, permission="755")
    with pytest.raises(urllib.error.HTTPError, match="Permission denied"):
        webhdfs(http, "PUT", "MKDIRS", f"{hdfs_root}/x", user="somebody")


def test_zookeeper_keeps_an_ephemeral_node_for_a_session(stack: Stack) -> None:
    client = KazooClient(stack.zookeeper, timeout=5)
    client.start(timeout=10)
    try:
        path = client.create("/test-", ephemeral=True, sequence=True)
        assert client.exists(path)
    finally:
        client.stop()
        client.close()


@pytest.mark.slow  # a dead DataNode is noticed after 12 s
def test_a_datanode_may_die_and_come_back(own_stack: Stack, hdfs_root: str) -> None:
    victim, count = own_stack.datanodes[0], len(own_stack.datanodes)
    write(own_stack, f"{hdfs_root}/a", b"before")
    pid = victim.pid
    victim.kill()
    assert victim.pid is None
    wait_live_datanodes(own_stack.namenode_http, count - 1)
    assert read(own_stack, f"{hdfs_root}/a") == b"before"
    victim.restart()
    assert victim.pid not in {None, pid}
    wait_live_datanodes(own_stack.namenode_http, count)
    write(own_stack, f"{hdfs_root}/b", b"after")


def test_the_namenode_restarts_with_its_files_and_out_of_safe_mode(own_stack: Stack, hdfs_root: str) -> None:
    assert own_stack.namenode is not None
    write(own_stack, f"{hdfs_root}/a", b"data")
    own_stack.namenode.kill()
    own_stack.namenode.restart()
    # Out of safe mode when 99.9 % of the blocks have been reported once: before all DataNodes are there, and
    # before the last of more than a thousand blocks is.
    wait_live_datanodes(own_stack.namenode_http, len(own_stack.datanodes))
    eventually(lambda: all(located(own_stack, f"{hdfs_root}/a")), "the file's block is reported")
    assert read(own_stack, f"{hdfs_root}/a") == b"data"
    write(own_stack, f"{hdfs_root}/b", b"data")


def test_safe_mode_can_be_entered_and_left(own_stack: Stack, hdfs_root: str) -> None:
    dfsadmin(own_stack.namenode_rpc, "-safemode", "enter")
    try:
        with pytest.raises(urllib.error.HTTPError, match="safe mode"):
            webhdfs(own_stack.namenode_http, "PUT", "MKDIRS", f"{hdfs_root}/x")
    finally:
        dfsadmin(own_stack.namenode_rpc, "-safemode", "leave")
    webhdfs(own_stack.namenode_http, "PUT", "MKDIRS", f"{hdfs_root}/x")


def test_a_paused_zookeeper_is_silent_until_resumed(own_stack: Stack) -> None:
    assert own_stack.zk is not None
    own_stack.zk.pause()
    with pytest.raises(StartError, match="no answer to ruok"):
        own_stack.zk.wait_ready(timeout_s=0.5)
    own_stack.zk.resume()
    own_stack.zk.wait_ready()


def test_heal_undoes_kills_and_pauses(own_stack: Stack) -> None:
    assert own_stack.zk is not None
    own_stack.zk.kill()
    own_stack.datanodes[0].pause()
    own_stack.heal()
    assert all(server.running for server in own_stack.servers)


def test_kafka_keeps_its_records_over_a_crash(own_stack: Stack, topic_factory: TopicFactory) -> None:
    topic = topic_factory()
    produce(own_stack.bootstrap, topic)
    own_stack.kafka[0].kill()
    own_stack.kafka[0].restart()
    assert consume(own_stack.bootstrap, topic, "classic") == set(range(RECORDS))


def test_kafka_clients_stay_behind_the_proxies(own_stack: Stack, topic_factory: TopicFactory) -> None:
    topic = topic_factory()
    assert own_stack.kafka_cluster is not None
    with own_stack.kafka_cluster.proxies() as (proxies, bootstrap):
        produce(bootstrap, topic)
        consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": topic,
                "auto.offset.reset": "earliest",
                "log_level": 0,
            }
        )
        try:
            consumer.subscribe([topic])
            arrived: list[Message] = []

            def come(count: int) -> bool:
                arrived.extend(m for m in consumer.consume(100, 0.2) if m.error() is None)
                return len(arrived) == count

            eventually(lambda: come(RECORDS), "all records through the proxy")
            proxies[0].cut()
            produce(own_stack.bootstrap, topic, 1)
            quiet_until = time.monotonic() + 2
            while time.monotonic() < quiet_until:
                assert not come(RECORDS + 1)
            proxies[0].heal()
            eventually(lambda: come(RECORDS + 1), "the record from behind the cut")
        finally:
            consumer.close()


def test_a_server_that_does_not_come_up_shows_its_log() -> None:
    space = Workspace()
    try:
        script = [sys.executable, "-c", "print('the reason'); raise SystemExit(3)"]
        server = Server("broken", script, workspace=space, probe=lambda: "never ready")
        server.start()
        with pytest.raises(StartError, match=r"(?s)broken ended while starting \(3\).*the reason"):
            server.wait_ready()
    finally:
        space.close()
