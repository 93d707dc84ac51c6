"""A ZooKeeper server as a local process."""

from __future__ import annotations

import socket
from pathlib import Path

from tests.stack.jars import java
from tests.stack.server import LOOPBACK, Server, Workspace, free_port

PROPERTIES = """\
clientPort={port}
clientPortAddress=127.0.0.1
dataDir={data}
tickTime=500
initLimit=10
syncLimit=5
# Sessions may be as short as a second, so that losing one does not make a test wait.
minSessionTimeout=1000
maxSessionTimeout=60000
admin.enableServer=false
4lw.commands.whitelist=ruok,srvr
"""

LOG4J = """\
log4j.rootLogger=INFO,console
log4j.appender.console=org.apache.log4j.ConsoleAppender
log4j.appender.console.layout=org.apache.log4j.PatternLayout
log4j.appender.console.layout.ConversionPattern=%d{ISO8601} %p %c{1}: %m%n
# A line for each file and block: megabytes a minute in a load test.
log4j.logger.org.apache.hadoop.hdfs.StateChange=WARN
log4j.logger.BlockStateChange=WARN
log4j.logger.org.apache.hadoop.hdfs.server.namenode.FSNamesystem.audit=WARN
log4j.logger.org.apache.hadoop.hdfs.server.datanode=WARN
"""


def zookeeper(workspace: Workspace) -> tuple[Server, str]:
    """A ZooKeeper server, not yet started, and its "127.0.0.1:port"."""
    port = free_port()
    folder = workspace.path / "zookeeper"
    folder.mkdir()
    write_config(folder, port, folder / "data")
    command = java(
        "hadoop",
        "org.apache.zookeeper.server.quorum.QuorumPeerMain",
        str(folder / "zoo.cfg"),
        heap_mib=256,
        config=folder,
    )

    def probe() -> str | None:
        return None if _says_imok(port) else f"no answer to ruok on port {port}"

    server = Server("zookeeper", command, workspace=workspace, probe=probe)
    return server, f"{LOOPBACK}:{port}"


def write_config(folder: Path, port: int, data: Path) -> None:
    """Write zoo.cfg and log4j.properties into `folder`."""
    (folder / "zoo.cfg").write_text(PROPERTIES.format(port=port, data=data))
    (folder / "log4j.properties").write_text(LOG4J)


def _says_imok(port: int) -> bool:
    try:
        with socket.create_connection((LOOPBACK, port), timeout=1) as connection:
            connection.sendall(b"ruok")
            return connection.recv(4) == b"imok"
    except OSError:
        return False
