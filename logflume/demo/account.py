"""What became of every record: counted by reading the files back, as a batch job would find them.

Shares no code with what writes them: paths, compression and lines are read here with nothing but Python's
own library, and each record is found again by the id it carries.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from logflume.demo.records import HOUR_MS, IN_TIME, LATE, Sent
from logflume.errors import Incomplete

_HOUR = re.compile(r"dt=(\d{4}-\d\d-\d\d)/hour=(\d\d)")


@dataclass(slots=True)
class HourFound:
    """An hour's directory: its visible files, the lines in them, and what its marker says, if it is there."""

    hour: int
    directory: Path
    files: list[Path] = field(default_factory=list)
    records: int = 0
    complete: bool = False
    promised: int | None = None

    @property
    def size(self) -> int:
        return sum(path.stat().st_size for path in self.files)


@dataclass(slots=True)
class Account:
    """Every number but ``sent`` comes from the files.

    ``lost``: sent and found nowhere. ``repeated``: found once more than sent. ``misplaced``: found in an hour
    that is not its own, in an hour though it came too late, or good in quarantine and bad outside of it.
    ``altered``: lines that nobody sent, byte for byte.
    """

    sent: Counter[str] = field(default_factory=Counter)
    hours: list[HourFound] = field(default_factory=list)
    late: int = 0
    quarantined: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    repeated: int = 0
    misplaced: int = 0
    altered: int = 0

    @property
    def in_hours(self) -> int:
        return sum(hour.records for hour in self.hours)

    @property
    def found(self) -> int:
        return self.in_hours + self.late + self.quarantined.total()


def count(root: Path, topic: str, sent: Iterable[Sent]) -> Account:
    """Read all files of a topic under ``root`` and hold them against what was sent. Raises Incomplete."""
    wanted = {record.id: record for record in sent}
    account = Account(sent=Counter(record.fate for record in wanted.values()))
    seen: Counter[str] = Counter()
    for directory, hour in _hours(root / topic):
        account.hours.append(_take_hour(account, seen, wanted, directory, hour))
    for directory, hour in _hours(root / "_late" / topic):
        for line in _lines(_visible(directory)):
            account.late += 1
            _take(account, seen, wanted, line, fates=(IN_TIME, LATE), hour=hour)
    for directory, hour in _hours(root / "_quarantine" / topic):
        for line in _lines(_visible(directory)):
            _take_rejected(account, seen, wanted, line, hour)
    account.lost = sum(1 for name in wanted if not seen[name])
    account.repeated = sum(times - 1 for times in seen.values() if times > 1)
    return account


def _take_hour(account: Account, seen: Counter[str], wanted: dict[str, Sent], directory: Path, hour: int) -> HourFound:
    found = HourFound(hour, directory, _visible(directory))
    for line in _lines(found.files):
        found.records += 1
        _take(account, seen, wanted, line, fates=(IN_TIME,), hour=hour)
    marker = directory / "_SUCCESS"
    if marker.exists():
        found.complete = True
        found.promised = json.loads(marker.read_bytes())["records"]
    return found


def _take(
    account: Account, seen: Counter[str], wanted: dict[str, Sent], line: bytes, *, fates: tuple[str, ...], hour: int
) -> None:
    """A line of an hour's file, or of a late one."""
    record = wanted.get(_id_in(line))
    if record is None:
        account.altered += 1
        return
    seen[record.id] += 1
    # a raw newline between two tokens of JSON becomes a space, since a file has one record a line
    account.altered += record.value is None or line != record.value.replace(b"\n", b" ")
    account.misplaced += record.fate not in fates or record.time_ms is None or not _within(record.time_ms, hour)


def _take_rejected(account: Account, seen: Counter[str], wanted: dict[str, Sent], line: bytes, hour: int) -> None:
    """A line of the quarantine: found by its key, since its value may not be readable at all."""
    try:
        body: dict[str, Any] = json.loads(line)
        key, value = (None if body[name] is None else base64.b64decode(body[name]) for name in ("key", "value"))
        account.quarantined[str(body["reason"])] += 1
    except (ValueError, KeyError, TypeError):
        account.altered += 1
        return
    record = wanted.get((key or b"").decode(errors="replace"))
    if record is None:
        account.altered += 1
        return
    seen[record.id] += 1
    account.altered += value != record.value or body["partition"] != record.partition
    account.misplaced += record.fate != body["reason"] or not _within(record.arrived_ms, hour)


def _id_in(line: bytes) -> str:
    try:
        return str(json.loads(line)["id"])
    except (ValueError, KeyError, TypeError):
        return ""


def _within(time_ms: int, hour: int) -> bool:
    return hour <= time_ms < hour + HOUR_MS


def _hours(tree: Path) -> Iterator[tuple[Path, int]]:
    for directory in sorted(tree.glob("dt=*/hour=*")):
        match = _HOUR.fullmatch(directory.relative_to(tree).as_posix())
        if match:
            at = datetime.strptime(f"{match[1]} {match[2]}", "%Y-%m-%d %H").replace(tzinfo=UTC)
            yield directory, int(at.timestamp() * 1000)


def _visible(directory: Path) -> list[Path]:
    """What a job reads: Hadoop's readers skip names that begin with an underscore or a dot."""
    return sorted(path for path in directory.iterdir() if path.name[0] not in "_.")


def _lines(files: Iterable[Path]) -> Iterator[bytes]:
    for path in files:
        try:
            with gzip.open(path) as text:
                for line in text:
                    yield line.removesuffix(b"\n")
        except (OSError, EOFError, zlib.error) as error:
            raise Incomplete(f"{path} cannot be read back: {error}") from error
