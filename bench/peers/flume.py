"""Flume: one agent of a Kafka source, a channel and two HDFS sinks; see flume.conf."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from bench.daemon import Place
from bench.peers.account import data_files, make_directory
from bench.topic import Load
from tests.stack.jars import fetched
from tests.stack.server import free_port

HERE = Path(__file__).parent
HEAP = "-Xmx1g"


class Flume:
    """Nothing in Flume says that a topic was read to its end: its counters do, and no open file is left."""

    def __init__(self, channel: Literal["file", "memory"]) -> None:
        self.name = f"flume-{channel}"
        self._channel = channel
        self._port = free_port()
        self._began: float | None = None

    def configured(self) -> dict[str, Any]:
        return {
            "version": "1.11.0, Hadoop client 3.3.6",
            "java": HEAP,
            "channel": self._channel,
            "flume.conf": (HERE / "flume.conf").read_text().splitlines(),
        }

    def command(self, here: Place, topic: str) -> tuple[Sequence[str], Mapping[str, str]]:
        make_directory(here, self.name)
        text = (HERE / "flume.conf").read_text()
        for word, value in {
            "CHANNEL": self._channel,
            "BOOTSTRAP": here.stack.bootstrap,
            "TOPIC": topic,
            "GROUP": f"{here.path[1:]}-{self.name}",
            "FOLDER": str(here.folder / self.name),
            "ROOT": f"{here.stack.hdfs_url}{here.path}/{self.name}",
        }.items():
            text = text.replace(word, value)
        conf = here.folder / f"{self.name}.conf"
        conf.write_text(text)
        java = [
            *("java", HEAP, "-Djava.net.preferIPv4Stack=true", "-Djava.awt.headless=true"),
            *("-Dflume.monitoring.type=http", f"-Dflume.monitoring.port={self._port}"),
            *("-cp", f"{fetched(HERE / 'flume.xml')}/*", "org.apache.flume.node.Application"),
            *("-n", "agent", "-f", str(conf), "--no-reload-conf"),
        ]
        return java, {}

    def began(self, log: str) -> float | None:
        """When it said that its source has started. Before that nothing is read."""
        if self._began is None and "Component type: SOURCE, name: kafka started" in log:
            self._began = time.time()
        return self._began

    def taken(self, load: Load) -> bool:
        return self._written() >= load.total

    def closed(self, here: Place) -> bool:
        return not any(file.stranded for file in data_files(here, self.name))

    def _written(self) -> int:
        """Events that the sinks have written, by their own counters; 0 while there is no answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/metrics", timeout=5) as reply:
                found: dict[str, dict[str, str]] = json.load(reply)
        except (OSError, ValueError):
            return 0
        return sum(int(one["EventDrainSuccessCount"]) for name, one in found.items() if name.startswith("SINK."))
