"""Paths on the store ↔ identities: the only place that knows how either is spelled.

All paths are relative to the output root. Each ``…_path`` function has an inverse, and a test checks
the round trip over arbitrary identities.

    <topic>/dt=2026-11-22/hour=07/_p00003-0000000000000123456.json.gz     a decided part, hidden
    <topic>/dt=2026-11-22/hour=07/<topic>-00000-of-00002.json.gz          after finishing
    <topic>/dt=2026-11-22/hour=07/_SUCCESS
    _late/<topic>/dt=…/hour=…/p00003-….<mark of topic id>.json.gz
    _quarantine/<topic>/dt=…/hour=…/p00003-….<mark of topic id>.json.gz
    _logflume/<topic>/<topic id>/p00003/000000000042.json                 ledger
    _logflume/<topic>/<topic id>/p00003/tmp/<unique name>
    _logflume/<topic>/<topic id>/plans/2026-11-22T07.json                 what finishing will do
    _logflume/<topic>/<topic id>/compactions/late/2026-11-22T07/000000.json   which files became which
    _logflume/<topic>/<topic id>/topic.json                               its first number of partitions, and window

A topic name may hold only ``[a-zA-Z0-9._-]`` (Kafka's rule) and none of our own trees begins without an
underscore, so a topic called ``_late`` would be the one collision: such names are refused.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime

from logflume.model import DAY_MS, HOUR_MS, Kind, PartitionId

SUCCESS = "_SUCCESS"
INCOMPLETE = "_INCOMPLETE"
LATE_ROOT = "_late"
QUARANTINE_ROOT = "_quarantine"
LEDGER_ROOT = "_logflume"
#: how the names of whole files begin that a repair has uploaded
REPAIRED = "repair-"

_FORMATS = {"json": "json", "text": "txt"}
_CODECS = {"gzip": ".gz", "zstd": ".zst", "none": ""}
# ASCII: \d would take the digits of other scripts; a number has one spelling, so no leading zero beyond the width
_PARTITION = r"p(\d{5}|[1-9]\d{5,})"
# the mark of a topic id, where there is one, counts as a part of the extension
_EXT = r"(?:\.[0-9a-f]{8})?\.[a-z.]+"
_MARKED = re.compile(r"[^.].*\.([0-9a-f]{8})\.[a-z.]+", re.ASCII)
_PART = re.compile(rf"(_?)(a?){_PARTITION}-(\d{{19}}){_EXT}", re.ASCII)
_FILE = re.compile(r"(?P<topic>.+)-(?P<index>\d{5})-of-(?P<count>\d{5})\.[a-z.]+", re.ASCII)
_COMPACTED = re.compile(rf"(?P<topic>.+)-(a?)c(\d{{6}})-(\d{{5}})-of-(\d{{5}}){_EXT}", re.ASCII)
_REPLACED = re.compile(r"_replaced-(\d{6})-.+", re.ASCII)
_REINJECTED = re.compile(rf"r{_PARTITION}-(\d{{19}}){_EXT}", re.ASCII)
_COPY = re.compile(r"compacted-([a-z]+)-(\d{4}-\d\d-\d\dT\d{2,4})-(\d{6})-[0-9a-f]+", re.ASCII)
_COMPACTION = re.compile(r"(\d{6})\.json", re.ASCII)
_ENTRY = re.compile(r"(\d{12})\.json", re.ASCII)
_HOUR = re.compile(r"dt=(\d{4}-\d\d-\d\d)(?:/hour=(\d\d)(\d\d)?)?", re.ASCII)
_NAME = re.compile(r"\d{4}-\d\d-\d\dT\d\d(\d\d)?", re.ASCII)


def extension(fmt: str, compression: str) -> str:
    """``.json.gz`` and the like, from the configuration's format and compression."""
    return f".{_FORMATS[fmt]}{_CODECS[compression]}"


def _at(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def hour_name(hour: int, window_ms: int = HOUR_MS) -> str:
    """``2026-11-22T07`` for people, plans and metadata; minutes are added for windows under an hour."""
    return _at(hour).strftime("%Y-%m-%dT%H%M" if window_ms < HOUR_MS else "%Y-%m-%dT%H")


def parse_hour_name(name: str) -> int:
    """Inverse of ``hour_name``; raises ValueError."""
    if _NAME.fullmatch(name) is None:
        raise ValueError(f"not an hour's name: {name!r}")
    form = "%Y-%m-%dT%H%M" if len(name) > 13 else "%Y-%m-%dT%H"
    return int(datetime.strptime(name, form).replace(tzinfo=UTC).timestamp() * 1000)


def hour_directory(hour: int, window_ms: int = HOUR_MS) -> str:
    """``dt=2026-11-22/hour=07``; a window under an hour has ``hour=0730``, a whole day only ``dt=``."""
    at = _at(hour)
    if window_ms >= DAY_MS:
        return at.strftime("dt=%Y-%m-%d")
    return at.strftime("dt=%Y-%m-%d/hour=%H%M" if window_ms < HOUR_MS else "dt=%Y-%m-%d/hour=%H")


def parse_hour_directory(text: str) -> int:
    """Inverse of ``hour_directory``; raises ValueError."""
    match = _HOUR.fullmatch(text)
    if match is None:
        raise ValueError(f"not an hour's directory: {text!r}")
    day, hh, mm = match.groups()
    at = datetime.strptime(f"{day} {hh or '00'}{mm or '00'}", "%Y-%m-%d %H%M").replace(tzinfo=UTC)
    return int(at.timestamp() * 1000)


def tree(kind: Kind, topic: str) -> str:
    """The directory of a topic in the tree of a kind."""
    return {
        Kind.HOUR: topic,
        Kind.LATE: f"{LATE_ROOT}/{topic}",
        Kind.QUARANTINE: f"{QUARANTINE_ROOT}/{topic}",
    }[kind]


@dataclass(frozen=True, slots=True)
class PartName:
    """The identity of a part's file: a partition holds each offset once, so the first offset is unique.

    ``appended``: a late part that the policy ``late = "append"`` puts into the hour's own directory.
    ``hidden``: begins with an underscore, which readers of HDFS directories skip.
    """

    partition: int
    first: int
    hidden: bool
    appended: bool = False

    def file_name(self, ext: str) -> str:
        return f"{'_' * self.hidden}{'a' * self.appended}p{self.partition:05d}-{self.first:019d}{ext}"


def parse_part_name(name: str) -> PartName | None:
    """Inverse of ``PartName.file_name``; None for any other file."""
    match = _PART.fullmatch(name)
    if match is None:
        return None
    hidden, appended, partition, first = match.groups()
    return PartName(int(partition), int(first), bool(hidden), bool(appended))


def hour_path(topic: str, hour: int, window_ms: int, kind: Kind = Kind.HOUR) -> str:
    return f"{tree(kind, topic)}/{hour_directory(hour, window_ms)}"


def id_mark(topic_id: str) -> str:
    """Tells the files of a topic's ids apart where they meet in one directory; 8 hex digits."""
    return hashlib.sha256(topic_id.encode()).hexdigest()[:8]


def mark_of(name: str) -> str:
    """The mark of a topic id in a file's name; "" in one without."""
    match = _MARKED.fullmatch(name)
    return match[1] if match else ""


def part_path(
    pid: PartitionId, kind: Kind, hour: int, first: int, window_ms: int, ext: str, *, early: bool, append: bool
) -> str:
    """Where a decided part goes. ``early``: hours show their parts at once; ``append``: late parts go to the hour.

    Quarantined records are JSON whatever the topic's format: their caller gives ``ext`` accordingly. Ids of a topic
    never share an hour, but records of one id may be late for, or quarantined in, an hour of another; offsets begin
    anew with each id, so there the name has its mark.
    """
    if kind is not Kind.HOUR:
        ext = f".{id_mark(pid.topic_id)}{ext}"
    appended = append and kind is Kind.LATE
    hidden = appended or (kind is Kind.HOUR and not early)
    directory = hour_path(pid.topic, hour, window_ms, Kind.HOUR if appended else kind)
    return f"{directory}/{PartName(pid.partition, first, hidden, appended).file_name(ext)}"


def finished_name(topic: str, index: int, count: int, ext: str) -> str:
    return f"{topic}-{index:05d}-of-{count:05d}{ext}"


def parse_finished_name(name: str) -> tuple[str, int, int] | None:
    """(topic, index, count) of a finished file's name; None for any other file."""
    match = _FILE.fullmatch(name)
    return (match["topic"], int(match["index"]), int(match["count"])) if match else None


def topic_directory(topic: str, topic_id: str) -> str:
    return f"{LEDGER_ROOT}/{topic}/{topic_id}"


def topic_path(topic: str, topic_id: str) -> str:
    return f"{topic_directory(topic, topic_id)}/topic.json"


def accepted_path(topic: str, topic_id: str) -> str:
    """An operator's word that this id follows an earlier one of the same topic name."""
    return f"{topic_directory(topic, topic_id)}/accepted.json"


def chain_directory(pid: PartitionId) -> str:
    return f"{topic_directory(pid.topic, pid.topic_id)}/p{pid.partition:05d}"


def parse_chain_directory(name: str) -> int | None:
    """The partition of ``p00003``; None for any other name."""
    return int(name[1:]) if re.fullmatch(_PARTITION, name, re.ASCII) else None


def entry_path(pid: PartitionId, seq: int) -> str:
    return f"{chain_directory(pid)}/{seq:012d}.json"


def parse_entry_name(name: str) -> int | None:
    """The sequence number of an entry's file name; None for any other file."""
    match = _ENTRY.fullmatch(name)
    return int(match[1]) if match else None


def tmp_path(pid: PartitionId, unique: str) -> str:
    return f"{chain_directory(pid)}/tmp/{unique}"


def plan_path(topic: str, topic_id: str, hour: int, window_ms: int, *, after_reveal: bool = False) -> str:
    """``after_reveal``: the plan of finishing for an hour whose own plan is an operator's reveal."""
    ext = "final.json" if after_reveal else "json"
    return f"{topic_directory(topic, topic_id)}/plans/{hour_name(hour, window_ms)}.{ext}"


def parse_plan_name(name: str) -> int | None:
    """The hour of a plan's file name; None for any other file."""
    hour, dot, ext = name.partition(".")
    return parse_hour_name(hour) if (dot, ext) == (".", "json") and _NAME.fullmatch(hour) else None


@dataclass(frozen=True, slots=True)
class CompactedName:
    """A file that compaction number ``number`` of its directory made; ``appended``: of late parts in an hour's own."""

    topic: str
    number: int
    index: int
    count: int
    appended: bool = False

    def file_name(self, ext: str) -> str:
        return f"{self.topic}-{'a' * self.appended}c{self.number:06d}-{self.index:05d}-of-{self.count:05d}{ext}"


def parse_compacted_name(name: str) -> CompactedName | None:
    """Inverse of ``CompactedName.file_name``; None for any other file."""
    match = _COMPACTED.fullmatch(name)
    if match is None:
        return None
    topic, appended, number, index, count = match.groups()
    return CompactedName(topic, int(number), int(index), int(count), bool(appended))


def replaced_name(number: int, name: str) -> str:
    """The hidden name of a file that compaction ``number`` copied, for as long as it is kept."""
    return f"_replaced-{number:06d}-{name}"


def parse_replaced_name(name: str) -> int | None:
    """The number of the compaction; None for any other file."""
    match = _REPLACED.fullmatch(name)
    return int(match[1]) if match else None


def compactions_directory(topic: str, topic_id: str, place: str = "") -> str:
    return f"{topic_directory(topic, topic_id)}/compactions{f'/{place}' if place else ''}"


def compaction_path(topic: str, topic_id: str, place: str, hour: int, window_ms: int, number: int) -> str:
    return f"{compactions_directory(topic, topic_id, place)}/{hour_name(hour, window_ms)}/{number:06d}.json"


def copy_name(place: str, hour: int, window_ms: int, number: int, unique: str) -> str:
    """In a topic's tmp: a file that this compaction has copied, until it shows."""
    return f"compacted-{place}-{hour_name(hour, window_ms)}-{number:06d}-{unique}"


def record_of_copy(topic: str, topic_id: str, name: str) -> str | None:
    """Path of the record of the compaction that made this copy; None for any other file."""
    match = _COPY.fullmatch(name)
    return f"{compactions_directory(topic, topic_id, match[1])}/{match[2]}/{match[3]}.json" if match else None


def parse_compaction_name(name: str) -> int | None:
    """The number of a compaction record's file name; None for any other file."""
    match = _COMPACTION.fullmatch(name)
    return int(match[1]) if match else None


def reinjected_name(topic_id: str, partition: int, first: int, ext: str) -> str:
    """A late file with records that were quarantined once; each offset is run again once, so the first is unique."""
    return f"rp{partition:05d}-{first:019d}.{id_mark(topic_id)}{ext}"


def parse_reinjected_name(name: str) -> tuple[int, int] | None:
    """(partition, first offset); None for any other file."""
    match = _REINJECTED.fullmatch(name)
    return (int(match[1]), int(match[2])) if match else None


def repaired_name(path: str, unique: str = "") -> str:
    """In a topic's tmp: the whole file that a repair will put at ``path``; without ``unique``, how such names begin."""
    return f"{REPAIRED}{hashlib.sha256(path.encode()).hexdigest()[:16]}-{unique}"


def reinjections_directory(topic: str, topic_id: str) -> str:
    return f"{topic_directory(topic, topic_id)}/reinjections"
