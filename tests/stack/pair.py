"""HDFS with two NameNodes over a JournalNode, and failing over from one to the other."""

from __future__ import annotations

import getpass
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.stack.hadoop import (
    JVM_FLAGS,
    NAMENODE,
    datanode,
    jmx,
    namenode_missing,
    settings,
    wait_live_datanodes,
    write_config,
)
from tests.stack.jars import java
from tests.stack.kafka import KafkaCluster, kafka
from tests.stack.proxy import Proxy
from tests.stack.server import LOOPBACK, POLL_S, Server, Workspace, accepts, free_port
from tests.stack.stack import Stack, make_root, require_tools, running, workspace

JOURNALNODE = "org.apache.hadoop.hdfs.qjournal.server.JournalNode"
HAADMIN = "org.apache.hadoop.hdfs.tools.DFSHAAdmin"
NAMESERVICE = "pair"
TRANSITION_S = 60.0
#: for how long one that was replaced while it hung may go on believing that it is active
BELIEVES_S = 6.0


@dataclass(frozen=True)
class NameNode:
    """One of the two: its id in the configuration, its process, and its ports."""

    name: str
    server: Server
    rpc_port: int
    http_port: int

    @property
    def http(self) -> str:
        return f"http://{LOOPBACK}:{self.http_port}"

    @property
    def is_active(self) -> bool:
        status = jmx(self.http, "Hadoop:service=NameNode,name=NameNodeStatus")
        return status is not None and status.get("State") == "active"


@dataclass
class Pair:
    """``stack.namenode_http`` leads to the NameNode that was made active last, for who looks from outside."""

    stack: Stack
    nodes: list[NameNode]
    front: Proxy
    conf: Path
    active: int = 0

    def activate(self, number: int) -> None:
        """Make it the active one; the other must be dead, hang, or be standby. Raises TimeoutError, ValueError."""
        node = self.nodes[number]
        # --forceactive: without it an unreachable other one forbids the transition
        command = java(
            "hadoop", HAADMIN, "-transitionToActive", "--forceactive", node.name, heap_mib=128, config=self.conf
        )
        done = subprocess.run(command, input="Y\n", capture_output=True, text=True, timeout=TRANSITION_S, check=False)
        if done.returncode != 0:
            raise ValueError(f"{node.name} does not become active: {done.stderr[-2000:]}")
        deadline = time.monotonic() + TRANSITION_S
        while not node.is_active:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{node.name} is not active after {TRANSITION_S:g} s")
            time.sleep(POLL_S)
        self.active = number
        self.front.retarget(LOOPBACK, node.http_port)

    def settle(self) -> None:
        """Wake the replaced one, if it hung: nobody fenced it, so it answers reads with what was. Its first write ends
        it, since the JournalNode has another writer; after some seconds it is fenced.
        """
        replaced = self.nodes[1 - self.active]
        if replaced.server.running:
            replaced.server.resume()
            if replaced.is_active:
                time.sleep(BELIEVES_S)
                replaced.server.kill()


@contextmanager
def local_pair() -> Iterator[Pair]:
    """One broker, a JournalNode, two NameNodes of which the first is active, and three DataNodes."""
    require_tools()
    with workspace() as space:
        ports = [(free_port(), free_port()) for _ in range(2)]
        journal_ports = free_port(), free_port()
        values = pair_settings(space, ports, journal_ports)
        conf = space.path / "hadoop-conf"
        write_config(conf, values)
        env = {"HADOOP_USER_NAME": getpass.getuser()}
        journal = Server(
            "journalnode",
            java("hadoop", JOURNALNODE, heap_mib=128, flags=JVM_FLAGS, config=conf),
            workspace=space,
            probe=lambda: None if accepts(journal_ports[0]) else "no answer",
            env=env,
        )
        nodes = [namenode(space, values, number, *each) for number, each in enumerate(ports, 1)]
        datanodes = [datanode(space, conf, env, number) for number in range(1, 4)]
        cluster = kafka(space, 1)
        with Proxy(LOOPBACK, ports[0][1]) as front:
            stack = pair_stack(cluster, journal, nodes, datanodes, front)
            pair = Pair(stack, nodes, front, conf)
            # each needs the one before: formatting the journal, and copying what the first one has
            with running([journal, *cluster.servers]), running([nodes[0].server]):
                pair.activate(0)
                with running([nodes[1].server, *datanodes]):
                    wait_live_datanodes(stack.namenode_http, len(datanodes))
                    make_root(stack)
                    yield pair


def pair_stack(
    cluster: KafkaCluster, journal: Server, nodes: list[NameNode], datanodes: list[Server], front: Proxy
) -> Stack:
    return Stack(
        bootstrap=cluster.bootstrap,
        namenode_rpc=NAMESERVICE,
        namenode_http=f"http://{front.address}",
        zookeeper="",
        kafka=cluster.servers,
        kafka_cluster=cluster,
        namenode=nodes[0].server,
        standby=nodes[1].server,
        journal=journal,
        datanodes=datanodes,
    )


def pair_settings(space: Workspace, ports: list[tuple[int, int]], journal: tuple[int, int]) -> dict[str, str]:
    """core-site and hdfs-site in one, for DataNodes and tools; each NameNode adds who it is."""
    values = settings(*ports[0], space.path / "names")
    del values["dfs.namenode.rpc-address"], values["dfs.namenode.http-address"]
    own = client_settings([f"{LOOPBACK}:{rpc}" for rpc, _ in ports])
    web = {
        f"dfs.namenode.http-address.{NAMESERVICE}.nn{i}": f"{LOOPBACK}:{http}" for i, (_, http) in enumerate(ports, 1)
    }
    return {
        **values,
        **own,
        **web,
        "fs.defaultFS": f"hdfs://{NAMESERVICE}",
        "dfs.namenode.shared.edits.dir": f"qjournal://{LOOPBACK}:{journal[0]}/{NAMESERVICE}",
        "dfs.journalnode.rpc-address": f"{LOOPBACK}:{journal[0]}",
        "dfs.journalnode.http-address": f"{LOOPBACK}:{journal[1]}",
        "dfs.journalnode.edits.dir": str(space.path / "journal"),
        "dfs.ha.fencing.methods": "shell(/bin/true)",
        # A standby reads only what is rolled, every two minutes by default; and one that starts stays in safe mode
        # until it has read of files that were removed since.
        "dfs.ha.log-roll.period": "2s",
        "dfs.ha.tail-edits.period": "1s",
    }


def client_settings(addresses: list[str]) -> dict[str, str]:
    """What a client has to know of the pair, whose RPC addresses these are."""
    return {
        "dfs.nameservices": NAMESERVICE,
        f"dfs.ha.namenodes.{NAMESERVICE}": "nn1,nn2",
        f"dfs.client.failover.proxy.provider.{NAMESERVICE}": (
            "org.apache.hadoop.hdfs.server.namenode.ha.ConfiguredFailoverProxyProvider"
        ),
        **{f"dfs.namenode.rpc-address.{NAMESERVICE}.nn{i}": one for i, one in enumerate(addresses, 1)},
    }


def namenode(space: Workspace, values: dict[str, str], number: int, rpc_port: int, http_port: int) -> NameNode:
    """Number 1 formats what is shared, number 2 copies it from number 1, which has to run then."""
    name = f"nn{number}"
    conf = space.path / f"hadoop-conf-{name}"
    own = {"dfs.ha.namenode.id": name, "dfs.namenode.name.dir": (space.path / f"names-{name}").as_uri()}
    write_config(conf, values | own)
    first = (
        ("-format", "-force", "-nonInteractive") if number == 1 else ("-bootstrapStandby", "-force", "-nonInteractive")
    )
    server = Server(
        f"namenode-{name}",
        java("hadoop", NAMENODE, heap_mib=512, flags=JVM_FLAGS, config=conf),
        prepare=java("hadoop", NAMENODE, *first, heap_mib=256, config=conf),
        workspace=space,
        probe=lambda: namenode_missing(f"http://{LOOPBACK}:{http_port}"),
        env={"HADOOP_USER_NAME": getpass.getuser()},
    )
    return NameNode(name, server, rpc_port, http_port)
