"""What a figure was measured on, and what processes used: read from /proc."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import confluent_kafka

TICKS = os.sysconf("SC_CLK_TCK")
PACKAGES = ("confluent-kafka", "hdfs-native", "hdfs", "msgspec", "isal", "pyroaring")


def describe() -> dict[str, Any]:
    """Date, versions, size of the machine, and its load now."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "cores": os.cpu_count(),
        "cpu": model[1] if model else platform.machine(),
        "memory_gib": round(int(memory[1]) / 2**20, 1) if memory else None,
        "python": platform.python_version(),
        "librdkafka": confluent_kafka.libversion()[0],
        "packages": {name: version(name) for name in PACKAGES},
        "commit": _commit(),
        "load": load(),
    }


def _commit() -> str:
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return found.stdout.strip()


def load() -> float:
    """Processes that wanted a core in the last minute; with other work on the machine figures are worse."""
    return round(os.getloadavg()[0], 1)


def busy_s() -> float:
    """Seconds of CPU that the whole machine has used since it started."""
    numbers = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    user, nice, system, _idle, _iowait, irq, soft, *_ = numbers
    return (user + nice + system + irq + soft) / TICKS


def cpu_s(pids: list[int]) -> float:
    """User and system time of these processes with all their threads."""
    total = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def threads_cpu_s(pid: int) -> dict[str, float]:
    """The same by name of thread."""
    found: dict[str, float] = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            name, rest = (task / "stat").read_text().split("(", 1)[1].rsplit(")", 1)
        except OSError:
            continue
        fields = rest.split()
        found[name] = found.get(name, 0.0) + (int(fields[11]) + int(fields[12])) / TICKS
    return found


def peak_mb(pids: list[int]) -> float:
    """The most memory each of these ever had, added up, in MB."""
    return _memory(pids, "VmHWM")


def resident_mb(pids: list[int]) -> float:
    return _memory(pids, "VmRSS")


def _memory(pids: list[int], name: str) -> float:
    total = 0
    for pid in pids:
        try:
            found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
        except OSError:
            continue
        total += int(found[1]) if found else 0
    return round(total * 1024 / 1e6, 1)
