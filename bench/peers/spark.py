"""Spark Structured Streaming: see spark_job.py. pyspark gets a virtual environment of its own, beside the jars."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.daemon import Place
from bench.peers.account import make_directory
from bench.topic import Load
from tests.stack.jars import cache_directory, fetched

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "spark-requirements.txt"
VERSION = re.findall(r"^pyspark==(\S+)", REQUIREMENTS.read_text(), re.MULTILINE)[0]
INSTALL_TIMEOUT_S = 900.0
SETTINGS = {
    "spark.driver.memory": "2g",
    "spark.ui.enabled": "false",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.hadoop.dfs.client.block.write.replace-datanode-on-failure.best-effort": "true",
}


class Spark:
    """One driver, local mode, as many cores as there are; ends by itself when everything is read."""

    name = "spark"

    def configured(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "master": _master(),
            "settings": SETTINGS,
            "spark_job.py": (HERE / "spark_job.py").read_text().splitlines(),
        }

    def command(self, here: Place, topic: str) -> tuple[Sequence[str], Mapping[str, str]]:
        make_directory(here, self.name)
        make_directory(here, "spark-checkpoint")
        python = environment() / "bin" / "python"
        found = subprocess.run(
            [python, "-c", "import pyspark; print(pyspark.__path__[0])"], capture_output=True, text=True, check=True
        )
        home = found.stdout.strip()
        jars = ",".join(str(jar) for jar in sorted(fetched(HERE / "spark.xml").glob("*.jar")))
        root = f"{here.stack.hdfs_url}{here.path}"
        submit = [f"{home}/bin/spark-submit", "--master", _master(), "--jars", jars]
        for name, value in SETTINGS.items():
            submit += ["--conf", f"{name}={value}"]
        job = [str(HERE / "spark_job.py"), here.stack.bootstrap, topic, f"{root}/spark", f"{root}/spark-checkpoint"]
        environ = {"SPARK_HOME": home, "PYSPARK_PYTHON": str(python), "SPARK_LOCAL_DIRS": str(here.folder)}
        return [*submit, *job], environ

    def began(self, log: str) -> float | None:
        said = re.search(r"^reading ([\d.]+)$", log, re.MULTILINE)
        return float(said[1]) if said else None

    def taken(self, load: Load) -> bool:  # noqa: ARG002 (it ends by itself)
        return False

    def closed(self, here: Place) -> bool:  # noqa: ARG002
        return False


def _master() -> str:
    return f"local[{os.cpu_count()}]"


def environment() -> Path:
    """The virtual environment with pyspark; made the first time, which takes minutes. Raises CalledProcessError."""
    cache = cache_directory()
    cache.mkdir(parents=True, exist_ok=True)
    complete = cache / f"pyspark-{VERSION}-python{sys.version_info[0]}.{sys.version_info[1]}"
    with (cache / "pyspark.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (complete / "complete").exists():
            print(f"making {complete.name}: some minutes", flush=True)  # noqa: T201
            # its scripts know their place, so it is made where it stays
            subprocess.run([sys.executable, "-m", "venv", "--clear", complete], check=True)
            with tempfile.TemporaryDirectory() as folder:
                subprocess.run(
                    [complete / "bin" / "python", "-m", "pip", "install", "--quiet", "-r", REQUIREMENTS],
                    check=True,
                    timeout=INSTALL_TIMEOUT_S,
                    env={**os.environ, "TMPDIR": folder},
                )
            (complete / "complete").touch()
    return complete
