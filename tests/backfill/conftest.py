"""A topic full of bad logs on the real servers, and the command as people call it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TopicFactory
from tests.e2e.bench import past
from tests.e2e.checker import check
from tests.e2e.daemon import toml
from tests.e2e.generate import Feed, Shape, make
from tests.e2e.log import Log, read_topic
from tests.e2e.oracle import Rules
from tests.e2e.report import Report
from tests.e2e.tree import LocalTree, Tree, WebTree
from tests.stack import Stack

TIMEOUT_S = 180.0


@dataclass
class Scene:
    """One topic and its configuration. ``run`` calls ``logflume backfill``."""

    stack: Stack
    topic: str
    folder: Path
    base: int
    log: Log
    hdfs_path: str
    large: int
    settings: dict[str, Any] = field(default_factory=dict)
    daemon: dict[str, Any] = field(default_factory=dict)
    trees: dict[str, Tree] = field(default_factory=dict)

    @property
    def config(self) -> Path:
        return self.configured(f"file://{self.folder / 'live'}")

    def configured(self, root: str, name: str = "logflume") -> Path:
        path = self.folder / f"{name}.toml"
        body = {
            "kafka": {"bootstrap.servers": self.stack.bootstrap, "group.id": self.topic},
            "output": {"root": root} | ({"namenode_http": self.stack.namenode_http} if root.startswith("hdfs") else {}),
            "daemon": {"spool": str(self.folder / "spool"), "http": "", "log_format": "text"} | self.daemon,
            "topic": [
                {"name": self.topic, "timestamp": {"field": "ts", "unit": "ms"}, "idle_grace": "5s"} | self.settings
            ],
        }
        path.write_text(toml(body))
        return path

    def command(self, *args: str, config: Path | None = None) -> list[str]:
        return [sys.executable, "-m", "logflume", "backfill", "-c", str(config or self.config), *args]

    def run(self, *args: str, code: int = 0, config: Path | None = None) -> str:
        done = subprocess.run(
            self.command(*args, config=config), capture_output=True, check=False, text=True, timeout=TIMEOUT_S
        )
        assert done.returncode == code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr, done.stderr
        return done.stdout

    def told(self, *args: str, code: int = 0, config: Path | None = None) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.run(*args, "--json", code=code, config=config))
        return body

    def root(self, name: str, scheme: str = "file") -> str:
        if scheme == "file":
            return f"file://{self.folder / name}"
        return f"hdfs://{self.stack.namenode_rpc}{self.hdfs_path}/{name}"

    def tree(self, root: str) -> Tree:
        if root not in self.trees:
            local = root.startswith("file")
            path = root[root.index("/", len("file://") + (0 if local else 1)) :]
            self.trees[root] = LocalTree(path) if local else WebTree(self.stack.namenode_http, path)
        return self.trees[root]

    def check(self, root: str, rules: Rules | None = None) -> Report:
        return check(self.tree(root), self.log, rules or Rules())


HOURS = 5
PARTITIONS = 3


@pytest.fixture
def scene(
    request: pytest.FixtureRequest, stack: Stack, topic_factory: TopicFactory, hdfs_root: str, tmp_path: Path
) -> Iterator[Scene]:
    """A parameter is the number of records of 1 MB among the others."""
    large = getattr(request, "param", 0)
    topic = topic_factory(PARTITIONS)
    base = past(HOURS + 2)
    shape = Shape(base, PARTITIONS, HOURS, 9_000, seed=5, late=20, large=large, silent=((2, 3),))
    Feed(stack.bootstrap, topic, make(shape), transactions=True).start().wait()
    made = Scene(stack, topic, tmp_path, base, read_topic(stack.bootstrap, topic), hdfs_root, large)
    yield made
    for tree in made.trees.values():
        tree.close()
