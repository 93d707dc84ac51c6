"""The record of a compaction: which files of a directory became which, with every part they are made of.

Put-if-absent, before anything that is there changes, and numbered from 0 in each directory; the next one is put when
this one is carried out. It holds the state after it, so the
newest one alone tells where each part is: in a file that it made, under the name of a source as long as it is not
carried out, or, where it names neither, under the part's own name.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from logflume.core import layout
from logflume.core.codec import part_from, part_json
from logflume.core.ledger import Part
from logflume.errors import LedgerError, Missing, StoreError, Unreachable
from logflume.finish import plan as plans
from logflume.finish.plan import File, Plan
from logflume.model import Kind
from logflume.store.base import Store

FORMAT = 1


class Place(StrEnum):
    """Which files of a topic and hour are compacted with each other; the values are on disk."""

    HOUR = "hour"
    APPENDED = "appended"  # late parts in the hour's own directory
    LATE = "late"
    QUARANTINE = "quarantine"

    @classmethod
    def of(cls, part: Part) -> Place:
        """Where a part belongs: late ones lie in the late tree, or in the hour's own directory."""
        if part.kind is not Kind.LATE:
            return cls.HOUR if part.kind is Kind.HOUR else cls.QUARANTINE
        return cls.LATE if part.path.startswith(f"{layout.LATE_ROOT}/") else cls.APPENDED

    @property
    def kind(self) -> Kind:
        """Whose tree its directories are in."""
        return {Place.LATE: Kind.LATE, Place.QUARANTINE: Kind.QUARANTINE}.get(self, Kind.HOUR)


@dataclass(frozen=True, slots=True)
class Spot:
    """One directory's files of one kind."""

    topic: str
    topic_id: str
    place: Place
    hour: int
    window_ms: int

    @property
    def directory(self) -> str:
        return layout.hour_path(self.topic, self.hour, self.window_ms, self.place.kind)

    @property
    def name(self) -> str:
        return layout.hour_name(self.hour, self.window_ms)

    def path(self, number: int) -> str:
        return layout.compaction_path(self.topic, self.topic_id, self.place, self.hour, self.window_ms, number)


@dataclass(frozen=True, slots=True)
class Made:
    """A file to be made of others, in order. A source may be a piece of a file: some of its parts. ``tmp``: where its
    copy waits, relative to the root; "" where there is none.
    """

    name: str
    sources: tuple[File, ...]
    tmp: str = ""

    @property
    def size(self) -> int:
        return sum(source.size for source in self.sources)

    @property
    def file(self) -> File:
        return File(self.name, tuple(part for source in self.sources for part in source.parts))


@dataclass(frozen=True, slots=True)
class Record:
    """``copy``: by copying; else by concat. ``kept``: files that earlier compactions made and that stay.
    ``manifest``: what the hour's marker says afterwards. ``at``: the wall clock in ms. ``cut``: files of which the
    sources are pieces.
    """

    spot: Spot
    number: int
    at: int
    copy: bool
    made: tuple[Made, ...]
    kept: tuple[File, ...] = ()
    manifest: Plan | None = None
    cut: tuple[File, ...] = ()

    def whole(self, source: File) -> File:
        """The file that a source is, or is a piece of."""
        return next((file for file in self.cut if file.name == source.name), source)

    @property
    def files(self) -> list[File]:
        """Every file of the directory that a compaction made, once this one is carried out."""
        return [*self.kept, *(made.file for made in self.made)]


def encode(record: Record) -> bytes:
    """Indented JSON: people look at it."""
    spot = record.spot
    body = {
        "v": FORMAT,
        "topic": spot.topic,
        "topic_id": spot.topic_id,
        "place": spot.place.value,
        "hour": spot.name,
        "start_ms": spot.hour,
        "window_ms": spot.window_ms,
        "number": record.number,
        "at_ms": record.at,
        "method": "copy" if record.copy else "concat",
        "files": [
            {
                "name": made.name,
                "bytes": made.size,
                "tmp": made.tmp,
                "sources": [_file_json(one) for one in made.sources],
            }
            for made in record.made
        ],
        "kept": [_file_json(file) for file in record.kept],
        "cut": [_file_json(file) for file in record.cut],
        "manifest": None if record.manifest is None else json.loads(plans.encode(record.manifest)),
    }
    return json.dumps(body, indent=1).encode() + b"\n"


def _file_json(file: File) -> dict[str, Any]:
    return {"name": file.name, "bytes": file.size, "segments": [_segment_json(part) for part in file.parts]}


def _segment_json(part: Part) -> dict[str, Any]:
    name = layout.parse_part_name(part.name)
    return {"partition": -1 if name is None else name.partition, **part_json(part)}


def _file(body: Mapping[str, Any]) -> File:
    return File(body["name"], tuple(part_from(segment) for segment in body["segments"]))


def decode(data: bytes) -> Record:
    """Inverse of ``encode``. Raises LedgerError."""
    try:
        body = json.loads(data)
        if body["v"] != FORMAT:
            raise LedgerError(f"the compaction has format {body['v']!r}, and this program knows {FORMAT}")
        manifest = body["manifest"]
        return Record(
            spot=Spot(body["topic"], body["topic_id"], Place(body["place"]), body["start_ms"], body["window_ms"]),
            number=body["number"],
            at=body["at_ms"],
            copy=body["method"] == "copy",
            made=tuple(
                Made(made["name"], tuple(_file(source) for source in made["sources"]), made.get("tmp", ""))
                for made in body["files"]
            ),
            kept=tuple(_file(file) for file in body["kept"]),
            cut=tuple(_file(file) for file in body["cut"]),
            manifest=None if manifest is None else plans.decode(json.dumps(manifest).encode()),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise LedgerError(f"the compaction cannot be read: {type(error).__name__}: {error}") from error


def newest(store: Store, spot: Spot) -> Record | None:
    """The newest compaction of a directory, None where there was none. Two calls, one where there was none."""
    directory = f"{store.root}/{spot.path(0).rsplit('/', 1)[0]}"
    numbers = [layout.parse_compaction_name(status.name) for status in store.list(directory)]
    number = max((number for number in numbers if number is not None), default=None)
    return None if number is None else read(store, spot, number)


def read(store: Store, spot: Spot, number: int) -> Record | None:
    """One record; None where it is not there."""
    try:
        record = decode(store.read(f"{store.root}/{spot.path(number)}"))
    except Missing:
        return None
    if (record.spot, record.number) != (spot, number):
        raise LedgerError(f"{spot.path(number)} says that it is number {record.number} of {record.spot.directory}")
    return record


def put(store: Store, wanted: Record) -> Record:
    """The record that holds under this number: ours, or that of another run, which is carried out then."""
    spot = wanted.spot
    path = f"{store.root}/{spot.path(wanted.number)}"
    tmp = f"{store.root}/{layout.topic_directory(spot.topic, spot.topic_id)}/tmp/{uuid.uuid4().hex}"
    try:
        if store.put_if_absent(path, encode(wanted), tmp):
            return wanted
    except (StoreError, Unreachable):
        if store.stat(path) is None:
            raise
    return read(store, spot, wanted.number) or wanted


def has_next(store: Store, record: Record) -> bool:
    """Whether a later one is there, so that this one is done."""
    return store.stat(f"{store.root}/{record.spot.path(record.number + 1)}") is not None


def hours(store: Store, topic: str, topic_id: str, place: Place) -> set[int]:
    """The hours with a compaction; one call."""
    found = store.list(f"{store.root}/{layout.compactions_directory(topic, topic_id, place)}")
    return {layout.parse_hour_name(status.name) for status in found if status.is_dir}
