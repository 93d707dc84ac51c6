"""The same servers in containers, for machines with a Docker engine and no Java. Untried.

Host networking with the very files that local servers get: a NameNode sends clients on to
DataNodes by address, and Kafka to brokers, so addresses must mean the same inside and outside.
"""

from __future__ import annotations

import getpass
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from testcontainers.core.container import DockerContainer

from tests.stack import hadoop, kafka, zookeeper
from tests.stack.server import LOOPBACK, POLL_S, READY_TIMEOUT_S, accepts, free_port

KAFKA_IMAGE = "apache/kafka:4.1.0"
HADOOP_IMAGE = "apache/hadoop:3.4.1"
ZOOKEEPER_IMAGE = "zookeeper:3.9.3"

DATANODES = 3

DEFAULT_HOST = "unix:///var/run/docker.sock"
ENGINE_TIMEOUT_S = 5.0


def engine_answers() -> bool:
    """Whether a Docker engine takes connections, at DOCKER_HOST or the usual socket.

    By hand, because the docker package leaves a socket open when it finds no engine.
    """
    host = urlsplit(os.environ.get("DOCKER_HOST") or DEFAULT_HOST)
    family, address = (
        (socket.AF_UNIX, host.path) if host.scheme == "unix" else (socket.AF_INET, (host.hostname, host.port))
    )
    with socket.socket(family) as connection:
        connection.settimeout(ENGINE_TIMEOUT_S)
        try:
            connection.connect(address)
        except OSError:
            return False
    return True


@contextmanager
def running() -> Iterator[dict[str, str]]:
    """Start all containers; yields the addresses by their names in Stack. TimeoutError if late."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="logflume-stack-")))
        broker = kafka.Node(1)
        rpc_port, http_port, zookeeper_port = free_port(), free_port(), free_port()
        for container in (
            _kafka(folder / "kafka", broker),
            _zookeeper(folder / "zookeeper", zookeeper_port),
            *_hadoop(folder / "hadoop", rpc_port, http_port),
        ):
            stack.enter_context(container)
        deadline = time.monotonic() + READY_TIMEOUT_S
        for port in (broker.port, http_port, zookeeper_port):
            while not accepts(port):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"no container listens on port {port}")
                time.sleep(POLL_S)
        yield {
            "bootstrap": f"{LOOPBACK}:{broker.port}",
            "namenode_rpc": f"{LOOPBACK}:{rpc_port}",
            "namenode_http": f"http://{LOOPBACK}:{http_port}",
            "zookeeper": f"{LOOPBACK}:{zookeeper_port}",
        }


def _container(image: str, conf: Path, script: str) -> DockerContainer:
    # Entry points of the images would write configurations of their own.
    return (
        DockerContainer(image, entrypoint=["sh", "-c"])
        .with_kwargs(network_mode="host")
        .with_volume_mapping(str(conf), "/conf", "ro")
        .with_env("HADOOP_CONF_DIR", "/conf")
        .with_env("HADOOP_USER_NAME", getpass.getuser())
        .with_command([script])
    )


def _kafka(conf: Path, node: kafka.Node) -> DockerContainer:
    conf.mkdir()
    kafka.write_config(conf, node, [node], Path("/tmp/kafka-data"))
    bin_ = "/opt/kafka/bin"
    properties = "/conf/server.properties"
    return _container(
        KAFKA_IMAGE,
        conf,
        f"{bin_}/kafka-storage.sh format -t {kafka.new_cluster_id()} -c {properties}"
        f" && exec {bin_}/kafka-server-start.sh {properties}",
    )


def _zookeeper(conf: Path, port: int) -> DockerContainer:
    conf.mkdir()
    zookeeper.write_config(conf, port, Path("/tmp/zookeeper-data"))
    return _container(ZOOKEEPER_IMAGE, conf, "exec zkServer.sh start-foreground /conf/zoo.cfg")


def _hadoop(conf: Path, rpc_port: int, http_port: int) -> list[DockerContainer]:
    values = hadoop.settings(rpc_port, http_port, Path("/tmp/hdfs/name"))
    hadoop.write_config(conf, values)
    scripts = ["hdfs namenode -format -force && exec hdfs namenode"]
    for _ in range(DATANODES):
        options = " ".join(
            f"-D {key}={LOOPBACK}:{free_port()}"
            for key in (
                "dfs.datanode.address",
                "dfs.datanode.http.address",
                "dfs.datanode.ipc.address",
            )
        )
        scripts.append(f"exec hdfs datanode -D dfs.datanode.data.dir=/tmp/hdfs/data {options}")
    return [_container(HADOOP_IMAGE, conf, script) for script in scripts]
