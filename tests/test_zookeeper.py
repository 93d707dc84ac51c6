"""What a host shows in ZooKeeper, on a real server: content, changes, other hosts, lost sessions, absence."""

from __future__ import annotations

import json
import re
import socket
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
from kazoo import client as kazoo_client  # type: ignore[import-untyped]

from logflume import zookeeper
from logflume.kafka.embedded import GROUP_OPTIONS, PARTITIONS, EmbeddedBroker, Outgoing, produce
from logflume.zookeeper import Board, Content
from tests.e2e.daemon import Daemon, wait_until
from tests.stack import Stack
from tests.stack.proxy import Proxy
from tests.stack.server import Reaper

PATIENCE_S = 30.0
HOUR_MS = 3_600_000
READING = {"owner": "a:1/0", "phase": "reading", "committed": 3, "boundary": None, "position": 7}
Log = list[MutableMapping[str, Any]]


class Place:
    """A path of one test on a server, seen with a client of its own, as another host or a person would."""

    def __init__(self, address: str) -> None:
        self.path = f"/test-{uuid.uuid4().hex[:12]}"
        self.server, self.address = address, f"{address}{self.path}"
        self.client = kazoo_client.KazooClient(address, connection_retry={"max_tries": -1, "max_delay": 0.5})

    def through(self, proxy: Proxy) -> str:
        return f"{proxy.address}{self.path}"

    def node(self, name: str) -> tuple[dict[str, Any], Any] | None:
        """Content and stat of a node, None where there is none."""
        try:
            data, stat = self.client.retry(self.client.get, f"{self.path}/{name}")
        except kazoo_client.NoNodeError:
            return None
        return json.loads(data), stat

    def shows(self, name: str, content: Content | None) -> bool:
        found = self.node(name)
        if found is None or content is None:
            return (found, content) == (None, None)
        return {key: value for key, value in found[0].items() if key != "at"} == content

    def owner(self, name: str) -> int:
        """The session that a node belongs to."""
        found = self.node(name)
        assert found is not None
        return int(found[1].ephemeralOwner)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zookeeper, "EVERY_S", 0.1)
    monkeypatch.setattr(zookeeper, "SESSION_S", 2.0)


@contextmanager
def place_on(address: str) -> Iterator[Place]:
    made = Place(address)
    made.client.start(PATIENCE_S)
    try:
        yield made
        made.client.retry(made.client.delete, made.path, recursive=True)
    finally:
        made.client.stop()
        made.client.close()


@pytest.fixture
def place(stack: Stack) -> Iterator[Place]:
    with place_on(stack.zookeeper) as made:
        yield made


@pytest.fixture
def own_place(own_stack: Stack) -> Iterator[Place]:
    """On a server that the test may pause and kill."""
    with place_on(own_stack.zookeeper) as made:
        yield made
        own_stack.heal()  # the path is removed next


@pytest.fixture
def log() -> Iterator[Log]:
    with structlog.testing.capture_logs() as said:
        yield said


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE_S:g} s: {what}"
        time.sleep(0.02)


def fixed(nodes: Mapping[str, Content]) -> Callable[[], Mapping[str, Content]]:
    return lambda: nodes


def texts(log: Log) -> list[str]:
    """What was warned of, so far."""
    return [f"{one['event']}: {one.get('error')}" for one in log if one["log_level"] == "warning"]


# -- while all is well ----------------------------------------------------------------------------


def test_nodes_are_shown_while_the_session_lasts(place: Place, log: Log) -> None:
    before_ms = time.time_ns() // 1_000_000
    nodes = {"partitions/app/0": READING, "partitions/other.topic_1/12": {**READING, "position": None}}
    with Board(place.address, fixed(nodes)):
        until(lambda: all(place.shows(name, content) for name, content in nodes.items()), "both are shown")
        found = place.node("partitions/app/0")
        assert found is not None
        assert before_ms <= found[0]["at"] <= time.time_ns() // 1_000_000
        assert found[1].ephemeralOwner != 0
    assert [place.node(name) for name in nodes] == [None, None]
    assert texts(log) == []


def test_an_address_without_a_path_shows_at_the_top(place: Place) -> None:
    name = f"{place.path.removeprefix('/')}/app/0"
    with Board(place.server, fixed({name: READING})):
        until(lambda: place.shows("app/0", READING), "it is shown")


def test_what_changes_is_written_and_what_does_not_is_not_asked_for(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    bring = Board._bring

    def count(self: Board, client: Any, path: str, content: Content | None) -> None:
        asked.append(path)
        bring(self, client, path, content)

    monkeypatch.setattr(Board, "_bring", count)
    nodes: dict[str, Content] = {"app/0": READING, "app/1": READING}
    with Board(place.address, fixed(nodes)):
        until(lambda: all(place.shows(name, READING) for name in nodes), "both are shown")
        nodes["app/1"] = {**READING, "committed": 7}
        until(lambda: place.shows("app/1", nodes["app/1"]), "the change is shown")
        time.sleep(0.5)
        assert asked == ["app/0", "app/1", "app/1"]


def test_a_partition_that_was_given_up_disappears(place: Place) -> None:
    nodes: dict[str, Content] = {"app/0": READING, "app/1": READING}
    with Board(place.address, fixed(nodes)):
        until(lambda: place.shows("app/1", READING), "it is shown")
        del nodes["app/1"]
        until(lambda: place.shows("app/1", None), "it is gone")
        assert place.shows("app/0", READING)


def test_a_partition_that_two_hosts_show_stays_with_the_first_until_it_lets_go(place: Place, log: Log) -> None:
    """Z3: the ledger says who of two owners writes; what the other one shows is neither written over nor removed."""
    first: dict[str, Content] = {"app/0": READING}
    second: dict[str, Content] = {"app/0": {**READING, "owner": "b:2/0"}, "app/1": READING}
    with Board(place.address, fixed(first)):
        until(lambda: place.shows("app/0", READING), "the first one shows it")
        with Board(place.address, fixed(second)):
            until(lambda: place.shows("app/1", READING), "the second one is at work")
            time.sleep(0.5)
            assert place.shows("app/0", READING)
            first.clear()
            until(lambda: place.shows("app/0", second["app/0"]), "the second one shows it")
            first["app/0"] = READING
            time.sleep(0.3)
            del first["app/0"]
            time.sleep(0.3)
            assert place.shows("app/0", second["app/0"])
    assert texts(log) == []


def test_another_host_that_is_quicker_by_a_moment_is_no_trouble(
    place: Place, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Z3: it creates the node after we saw none, and removes its own before we do."""

    class Late(kazoo_client.KazooClient):  # type: ignore[misc]
        def exists_async(self, path: str, *rest: Any) -> Any:
            found = super().exists_async(path, *rest)
            if found.get() is None and path.endswith("app/0") and not theirs:
                theirs.append(place.client.create(path, b"{}", ephemeral=True, makepath=True))
            elif found.get() is not None and path.endswith("app/1"):
                place.client.delete(path)
                removed.append(path)
            return found

    theirs: list[str] = []
    removed: list[str] = []
    monkeypatch.setattr(kazoo_client, "KazooClient", Late)
    nodes: dict[str, Content] = {"app/0": READING, "app/1": READING, "app/2": READING}
    with Board(place.address, fixed(nodes)):
        until(lambda: place.shows("app/2", READING), "what comes after it is shown")
        assert place.shows("app/0", {})
        nodes["app/1"] = {**READING, "committed": 7}
        until(lambda: place.shows("app/1", nodes["app/1"]), "it is shown again")
        assert removed
        del nodes["app/1"], nodes["app/2"]
        until(lambda: place.shows("app/2", None), "what comes after it is gone")
        place.client.delete(theirs[0])
        until(lambda: place.shows("app/0", READING), "it is shown")
    assert texts(log) == []


# -- faults ---------------------------------------------------------------------------------------


def test_a_connection_that_is_away_for_less_than_a_session_changes_nothing(
    place: Place, stack: Stack, log: Log
) -> None:
    """Z1: what is shown stays, and goes on in the same session."""
    host, _, port = stack.zookeeper.partition(":")
    nodes: dict[str, Content] = {"app/0": READING}
    with Proxy(host, int(port)) as proxy, Board(place.through(proxy), fixed(nodes)):
        until(lambda: place.shows("app/0", READING), "it is shown")
        session = place.owner("app/0")
        proxy.cut()
        nodes["app/0"] = {**READING, "committed": 7}
        time.sleep(0.5)
        assert place.shows("app/0", READING)
        proxy.heal()
        until(lambda: place.shows("app/0", nodes["app/0"]), "the change is shown")
        assert place.owner("app/0") == session
        until(lambda: log[-1]["event"] == "shown in ZooKeeper again", "it says so")
        said = texts(log)
        assert len(said) == len(set(said))
        assert any("socket connection" in text for text in said)
        proxy.cut()
        until(lambda: set(texts(log)[len(said) :]) & set(said), "it says so once more")


def test_after_a_lost_session_everything_is_shown_anew(
    place: Place, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Z2 N2: nothing changed meanwhile, so only the session tells that the nodes are gone."""
    monkeypatch.setattr(zookeeper, "SESSION_S", 1.0)
    host, _, port = stack.zookeeper.partition(":")
    nodes = {"app/0": READING, "app/1": READING}
    with Proxy(host, int(port)) as proxy, Board(place.through(proxy), fixed(nodes)):
        until(lambda: all(place.shows(name, READING) for name in nodes), "both are shown")
        session = place.owner("app/0")
        proxy.blackhole()
        until(lambda: place.shows("app/0", None) and place.shows("app/1", None), "the server ends the session")
        proxy.heal()
        until(lambda: all(place.shows(name, READING) for name in nodes), "both are shown again")
        assert place.owner("app/0") == place.owner("app/1") != session


def test_a_reply_that_is_lost_leaves_no_node_that_nobody_removes(place: Place, stack: Stack) -> None:
    """N3: the server creates the node and we do not hear of it; then the partition is given up."""
    host, _, port = stack.zookeeper.partition(":")
    nodes: dict[str, Content] = {"app/0": READING}
    with Proxy(host, int(port)) as proxy, Board(place.through(proxy), fixed(nodes)):
        until(lambda: place.shows("app/0", READING), "it is shown")
        sprung = proxy.trap(re.compile(rb"/app/1.*reading"), reaches=True)
        nodes["app/1"] = READING
        assert sprung.wait(PATIENCE_S)
        until(lambda: place.shows("app/1", READING), "the server creates it")
        del nodes["app/1"]
        proxy.heal()
        until(lambda: place.shows("app/1", None), "it is gone")


def test_a_server_that_is_down_at_the_start_is_found_later(own_place: Place, own_stack: Stack, log: Log) -> None:
    """Z4: its absence is a warning, once; the server's sessions and nodes survive its own restart."""
    assert own_stack.zk is not None
    own_stack.zk.kill()
    with Board(own_place.address, fixed({"app/0": READING})):
        time.sleep(2.0)
        assert texts(log) == ["not shown in ZooKeeper: Connection dropped: socket connection error: Connection refused"]
        own_stack.zk.restart()
        until(lambda: own_place.shows("app/0", READING), "it is shown")
        until(lambda: log[-1]["event"] == "shown in ZooKeeper again", "it says so")
        session = own_place.owner("app/0")
        own_stack.zk.kill()
        own_stack.zk.restart()
        until(lambda: own_place.shows("app/0", READING), "it is shown")
        assert own_place.owner("app/0") == session


def test_a_paused_server_does_not_hold_up_a_stop(
    own_place: Place, own_stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Z4 N2"""
    monkeypatch.setattr(zookeeper, "STOP_S", 0.5)
    assert own_stack.zk is not None
    nodes: dict[str, Content] = {"app/0": READING}
    with Board(own_place.address, fixed(nodes)):
        until(lambda: own_place.shows("app/0", READING), "it is shown")
        own_stack.zk.pause()
        nodes["app/0"] = {**READING, "committed": 7}
        time.sleep(0.3)
        began = time.monotonic()
    assert time.monotonic() - began < 1.0
    own_stack.zk.resume()
    until(lambda: own_place.shows("app/0", None), "it is gone")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_client_whose_thread_has_died_is_replaced(place: Place, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    class Kept(kazoo_client.KazooClient):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            made.append(self)

    monkeypatch.setattr(kazoo_client, "KazooClient", Kept)
    with Board(place.address, fixed({"app/0": READING})):
        until(lambda: place.shows("app/0", READING), "it is shown")
        session = place.owner("app/0")
        made[-1]._queue.append("no request")
        made[-1]._connection._write_sock.send(b"\0")
        until(lambda: place.shows("app/0", READING) and place.owner("app/0") != session, "another session shows it")
    assert "not shown in ZooKeeper: Unhandled exception in connection loop" in texts(log)


def test_a_name_without_an_address_is_a_warning(log: Log) -> None:
    with Board("zookeeper.invalid:2181/logflume", fixed({"app/0": READING})):
        until(lambda: texts(log), "it says so")
        time.sleep(0.5)
    assert len(texts(log)) == len(set(texts(log)))
    assert "Cannot resolve zookeeper.invalid" in texts(log)[0]


def test_without_kazoo_there_is_one_warning(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kazoo.client", None)
    with Board("127.0.0.1:1", fixed({"app/0": READING})):
        time.sleep(0.3)
    assert [one["event"] for one in log] == ["nothing is shown in ZooKeeper: kazoo is not installed"]


# -- a whole daemon -------------------------------------------------------------------------------


@pytest.mark.e2e
def test_a_daemon_shows_the_partitions_of_its_workers_and_removes_them_when_it_stops(
    place: Place, tmp_path: Path
) -> None:
    reaper = Reaper()
    base_ms = time.time_ns() // 1_000_000 - 10 * HOUR_MS
    with EmbeddedBroker() as broker:
        # the fourth record closes the hour of the first three, and all five are decided after a second
        hours = (0, 0, 0, 2, 2)
        produce(broker.bootstrap, "app", [Outgoing(0, b'{"n":1}', base_ms + hour * HOUR_MS) for hour in hours])
        config = {
            "kafka": {"bootstrap.servers": broker.bootstrap, "group.id": "app", **GROUP_OPTIONS},
            "output": {"root": f"file://{tmp_path}/out"},
            "daemon": {"workers": 2, "http": "", "log_format": "text", "zookeeper": place.address},
            "topic": [{"name": "app", "timestamp": "create", "roll_every": "1s", "idle_grace": "1h"}],
        }
        daemon = Daemon(tmp_path, "daemon", config, reaper)
        # the only thing that is not as in production: ten seconds are long for a test
        quick = "from logflume import cli, zookeeper; zookeeper.EVERY_S = 0.2; cli.main()"
        daemon.program = ["-c", quick, *daemon.program[2:]]
        names = [f"partitions/app/{number}" for number in range(PARTITIONS)]

        def shown() -> list[dict[str, Any]]:
            return [found[0] for found in map(place.node, names) if found is not None]

        def decided() -> bool:
            whole = {"phase": "reading", "committed": 5, "boundary": 3, "position": 5}
            return len(shown()) == len(names) and whole.items() <= shown()[0].items()

        try:
            daemon.start()
            wait_until(decided, 60, f"all partitions are shown, and what was decided: {shown()}", daemon)
            host = f"{socket.gethostname()}:{daemon.process.pid}"
            assert sorted(one["owner"] for one in shown()) == [f"{host}/{worker}" for worker in (0, 0, 1, 1)]
            daemon.stop()
            assert shown() == []
            daemon.no_surprise()
            assert "not shown in ZooKeeper" not in daemon.logged()
        finally:
            daemon.end()
            reaper.close()
