"""A tree of files as the demo's daemon would leave it, written by hand; and ways to tamper with one."""

from __future__ import annotations

import base64
import gzip
import json
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path

from logflume.demo.records import IN_TIME, LATE, Sent

TOPIC = "access"


def directory(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("dt=%Y-%m-%d/hour=%H")


def place(record: Sent) -> tuple[str, bytes]:
    """The directory where a record belongs, and its line there."""
    value = record.value
    if record.fate in (IN_TIME, LATE):
        assert record.time_ms is not None
        assert value is not None
        tree = TOPIC if record.fate == IN_TIME else f"_late/{TOPIC}"
        return f"{tree}/{directory(record.time_ms)}", value.replace(b"\n", b" ")
    line = {
        "topic": TOPIC,
        "partition": record.partition,
        "offset": 0,
        "timestamp": record.arrived_ms,
        "reason": record.fate,
        "key": base64.b64encode(record.id.encode()).decode(),
        "value": None if value is None else base64.b64encode(value).decode(),
    }
    return f"_quarantine/{TOPIC}/{directory(record.arrived_ms)}", json.dumps(line).encode()


def write(root: Path, sent: list[Sent]) -> None:
    lines: dict[str, list[bytes]] = defaultdict(list)
    for record in sent:
        where, line = place(record)
        lines[where].append(line)
    for where, found in lines.items():
        (root / where).mkdir(parents=True)
        name = "part.json.gz" if where.startswith("_") else "access-00000-of-00001.json.gz"
        save(root / where / name, found)
        if not where.startswith("_"):
            (root / where / "_SUCCESS").write_text(json.dumps({"records": len(found)}))


def load(path: Path) -> list[bytes]:
    return gzip.decompress(path.read_bytes()).splitlines()


def save(path: Path, lines: list[bytes]) -> None:
    path.write_bytes(gzip.compress(b"".join(line + b"\n" for line in lines), 1))


def hour_files(root: Path, tree: str = TOPIC) -> list[Path]:
    return sorted((root / tree).glob("dt=*/hour=*/[!_]*"))
