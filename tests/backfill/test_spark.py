"""The Spark engine on a real local Spark, with real Kafka and HDFS."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.backfill.conftest import Scene

pytest.importorskip(
    "pyspark", reason="pyspark is not installed: pip install 'logflume[spark]' to test the Spark engine"
)
pytestmark = pytest.mark.slow

TIMEOUT_S = 300.0


def spark(master: str) -> dict[str, str]:
    conf = "--conf spark.ui.enabled=false --conf spark.driver.host=127.0.0.1 --conf spark.driver.bindAddress=127.0.0.1"
    return {
        **os.environ,
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_SUBMIT_ARGS": f"--master {master} {conf} pyspark-shell",
    }


def call(command: list[str], master: str) -> str:
    done = subprocess.run(command, capture_output=True, check=False, text=True, timeout=TIMEOUT_S, env=spark(master))
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_command_replays_a_topic_into_hdfs(scene: Scene) -> None:
    root = scene.root("spark", "hdfs")
    call(
        scene.command("--into", root, "--engine", "spark", config=scene.configured(scene.root("live", "hdfs"))),
        "local[2]",
    )
    scene.check(root).clean(crashed=False)


def driver(scene: Scene, root: str, what: str) -> list[str]:
    return [sys.executable, "-m", "tests.backfill.spark_driver", str(scene.config), scene.topic, root, what]


def test_a_task_that_fails_twice_goes_on_where_it_was(scene: Scene) -> None:
    scene.settings = {"roll_bytes": "32KiB"}
    root = scene.root("fails")
    said = call(driver(scene, root, "fails"), "local[2,4]")
    assert "a failure on purpose" in said
    scene.check(root).clean(crashed=True)
    ledger = scene.folder / "fails" / "_logflume" / scene.topic / scene.log.topic_id
    for chain in ledger.glob("p0*"):
        newest = json.loads(max(chain.glob("*.json")).read_bytes())
        assert newest["epoch"] == 3, "each attempt has claimed the chain"


def test_a_speculative_twin_does_no_harm(scene: Scene) -> None:
    scene.settings = {"roll_bytes": "32KiB"}
    root = scene.root("twins")
    call(driver(scene, root, "twins"), "local[4]")
    scene.check(root).clean(crashed=True)
