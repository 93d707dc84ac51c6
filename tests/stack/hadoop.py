"""HDFS as local processes: a NameNode and DataNodes, one JVM each."""

from __future__ import annotations

import getpass
import json
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from tests.stack.jars import java
from tests.stack.server import LOOPBACK, POLL_S, Server, Workspace, free_port
from tests.stack.zookeeper import LOG4J

NAMENODE = "org.apache.hadoop.hdfs.server.namenode.NameNode"
DATANODE = "org.apache.hadoop.hdfs.server.datanode.DataNode"
DFSADMIN = "org.apache.hadoop.hdfs.tools.DFSAdmin"

# WebHDFS answers 500 on Java 17 without it.
JVM_FLAGS = ("--add-opens=java.base/java.lang=ALL-UNNAMED",)

HTTP_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Hdfs:
    """The servers of one HDFS, and where it answers."""

    namenode: Server
    datanodes: list[Server]
    namenode_rpc: str
    namenode_http: str


def settings(rpc_port: int, http_port: int, names: Path) -> dict[str, str]:
    """core-site and hdfs-site in one; `names` is the directory for the NameNode's own data."""
    return {
        "fs.defaultFS": f"hdfs://{LOOPBACK}:{rpc_port}",
        "fs.trash.interval": "0",
        "hadoop.tmp.dir": str(names.parent / "hadoop-tmp"),
        "dfs.namenode.rpc-address": f"{LOOPBACK}:{rpc_port}",
        "dfs.namenode.http-address": f"{LOOPBACK}:{http_port}",
        "dfs.namenode.name.dir": names.as_uri(),
        "dfs.namenode.datanode.registration.ip-hostname-check": "false",
        "dfs.datanode.hostname": LOOPBACK,
        "dfs.replication": "3",
        "dfs.permissions.enabled": "true",
        "dfs.namenode.fs-limits.min-block-size": "4096",
        # The NameNode takes a silent DataNode for dead after 2 * recheck + 10 * heartbeat = 12 s.
        "dfs.heartbeat.interval": "1s",
        "dfs.namenode.heartbeat.recheck-interval": "1000",
        "dfs.namenode.redundancy.interval.seconds": "1s",
        "dfs.namenode.safemode.extension": "0",
        # Else three DataNodes of which one dies fail a write: there is no fourth to replace it.
        "dfs.client.block.write.replace-datanode-on-failure.best-effort": "true",
    }


def write_config(folder: Path, values: dict[str, str]) -> None:
    """Write a Hadoop configuration folder, with the empty web applications that servers need."""
    properties = "".join(
        f"  <property><name>{escape(name)}</name><value>{escape(value)}</value></property>\n"
        for name, value in values.items()
    )
    text = f'<?xml version="1.0"?>\n<configuration>\n{properties}</configuration>\n'
    folder.mkdir(parents=True, exist_ok=True)
    for site in ("core-site.xml", "hdfs-site.xml"):
        (folder / site).write_text(text)
    (folder / "log4j.properties").write_text(LOG4J)
    for application in ("hdfs", "datanode", "journal"):
        descriptor = folder / "webapps" / application / "WEB-INF" / "web.xml"
        descriptor.parent.mkdir(parents=True, exist_ok=True)
        descriptor.write_text("<web-app/>\n")


def hdfs(workspace: Workspace, datanodes: int = 3) -> Hdfs:
    """A NameNode and DataNodes, none of them started. The superuser is whoever runs this."""
    rpc_port, http_port = free_port(), free_port()
    conf = workspace.path / "hadoop-conf"
    write_config(conf, settings(rpc_port, http_port, workspace.path / "namenode"))
    env = {"HADOOP_USER_NAME": getpass.getuser()}
    http = f"http://{LOOPBACK}:{http_port}"
    namenode = Server(
        "namenode",
        java("hadoop", NAMENODE, heap_mib=512, flags=JVM_FLAGS, config=conf),
        prepare=java("hadoop", NAMENODE, "-format", "-force", heap_mib=256, config=conf),
        workspace=workspace,
        probe=lambda: namenode_missing(http),
        env=env,
    )
    nodes = [datanode(workspace, conf, env, number) for number in range(1, datanodes + 1)]
    return Hdfs(namenode, nodes, f"{LOOPBACK}:{rpc_port}", http)


def datanode(workspace: Workspace, conf: Path, env: dict[str, str], number: int) -> Server:
    """The DataNode of that number, not started; ``conf`` is its configuration folder."""
    name = f"datanode-{number}"
    # Fixed ports: a restarted DataNode is where the NameNode and its clients knew it.
    transfer, http, ipc = free_port(), free_port(), free_port()
    options = {
        "dfs.datanode.data.dir": (workspace.path / name).as_uri(),
        "dfs.datanode.address": f"{LOOPBACK}:{transfer}",
        "dfs.datanode.http.address": f"{LOOPBACK}:{http}",
        "dfs.datanode.ipc.address": f"{LOOPBACK}:{ipc}",
    }
    arguments = [word for key, value in options.items() for word in ("-D", f"{key}={value}")]
    return Server(
        name,
        java("hadoop", DATANODE, *arguments, heap_mib=256, flags=JVM_FLAGS, config=conf),
        workspace=workspace,
        probe=lambda: _datanode_missing(f"http://{LOOPBACK}:{http}"),
        env=env,
    )


def jmx(http: str, bean: str) -> dict[str, Any] | None:
    """One JMX bean of a Hadoop server, or None while the server does not answer or lacks it."""
    try:
        with urllib.request.urlopen(f"{http}/jmx?qry={bean}", timeout=HTTP_TIMEOUT_S) as reply:
            beans: list[dict[str, Any]] = json.load(reply)["beans"]
    except (OSError, ValueError):
        return None  # a starting server refuses, resets or sends half a page
    return beans[0] if beans else None


def namenode_missing(http: str) -> str | None:
    info = jmx(http, "Hadoop:service=NameNode,name=NameNodeInfo")
    if info is None:
        return f"no answer from {http}/jmx"
    return str(info["Safemode"]) or None


def _datanode_missing(http: str) -> str | None:
    info = jmx(http, "Hadoop:service=DataNode,name=DataNodeInfo")
    if info is None:
        return f"no answer from {http}/jmx"
    # One entry a NameNode; its state is learned from the first heartbeat that was answered.
    actors = json.loads(info.get("BPServiceActorInfo") or "[]")
    states = [actor.get("NamenodeHaState") for actor in actors]
    if "active" in states and set(states) <= {"active", "standby"}:
        return None
    return f"no answer to its heartbeat from every NameNode: {states}"


def live_datanodes(namenode_http: str) -> int:
    """How many DataNodes the NameNode takes for alive and knows the space of; 0 while it does not answer.

    A NameNode that has restarted counts them from their registration on, and places no block on one before its
    first heartbeat after that: "could only be written to 0 of the 1 minReplication nodes".
    """
    info = jmx(namenode_http, "Hadoop:service=NameNode,name=NameNodeInfo")
    nodes: dict[str, dict[str, Any]] = json.loads(info["LiveNodes"]) if info else {}
    return sum(node["capacity"] > 0 for node in nodes.values())


def wait_live_datanodes(namenode_http: str, count: int, timeout_s: float = 60.0) -> None:
    """Wait until the NameNode counts exactly `count` live DataNodes; TimeoutError otherwise."""
    deadline = time.monotonic() + timeout_s
    while (live := live_datanodes(namenode_http)) != count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{live} live DataNodes after {timeout_s:g} s, expected {count}")
        time.sleep(POLL_S)


def webhdfs(
    namenode_http: str, method: str, operation: str, path: str, *, user: str = "", **query: str
) -> dict[str, Any]:
    """One WebHDFS metadata call as `user` (default: who runs the tests); its JSON, {} if none.

    Raises urllib.error.HTTPError with Hadoop's own message in it.
    """
    parameters = {"op": operation, "user.name": user or getpass.getuser(), **query}
    url = f"{namenode_http}/webhdfs/v1{urllib.parse.quote(path)}"
    request = urllib.request.Request(f"{url}?{urllib.parse.urlencode(parameters)}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            body = reply.read()
    except urllib.error.HTTPError as error:
        error.msg = f"{error.msg}: {error.read().decode(errors='replace')}"
        raise
    result: dict[str, Any] = json.loads(body) if body else {}
    return result


@contextmanager
def snapshot(namenode_http: str, path: str) -> Iterator[None]:
    """A snapshot of a directory, as who runs the tests, for as long as the block lasts."""
    webhdfs(namenode_http, "PUT", "ALLOWSNAPSHOT", path)
    webhdfs(namenode_http, "PUT", "CREATESNAPSHOT", path, snapshotname="s")
    try:
        yield
    finally:
        webhdfs(namenode_http, "DELETE", "DELETESNAPSHOT", path, snapshotname="s")
        webhdfs(namenode_http, "PUT", "DISALLOWSNAPSHOT", path)


def dfsadmin(namenode_rpc: str, *arguments: str) -> str:
    """Run `hdfs dfsadmin ARGUMENTS` as who runs the tests; its output. About 2 s, a JVM each.

    For what no client offers: `-safemode enter`, `-setQuota 1 /dir`, `-report`.
    Raises subprocess.CalledProcessError.
    """
    command = java("hadoop", DFSADMIN, "-fs", f"hdfs://{namenode_rpc}", *arguments, heap_mib=128)
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if result.returncode != 0:
        raise subprocess.CalledProcessError(result.returncode, command, result.stdout, result.stderr)
    return result.stdout
