"""Parts and files after a compaction, by its newest record: see ``compact/record.py``."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from logflume.compact import record as records
from logflume.compact.record import Place, Record, Spot
from logflume.core import layout
from logflume.core.ledger import Part
from logflume.finish.plan import File
from logflume.model import Kind, PartitionId
from logflume.store.base import FileStatus, Store


def file_of(store: Store, pid: PartitionId, part: Part, window_ms: int) -> tuple[FileStatus, int] | None:
    """The file that holds a part, and where it begins there; None where no compaction took it, or its file is gone.

    One list, one read, and a stat or some.
    """
    spot = Spot(pid.topic, pid.topic_id, Place.of(part), part.hour, window_ms)
    record = records.newest(store, spot)
    if record is None:
        return None
    for file, names in _files(record):
        if all(one.path != part.path for one in file.parts):
            continue
        start = file.start_of(part)
        for name in names:
            status = store.stat(f"{store.root}/{spot.directory}/{name}")
            # one that concat is at may not have it yet
            if status is not None and not status.is_dir and status.length >= start + part.size:
                return status, start
    return None


def explained(
    store: Store, topic: str, topic_ids: Sequence[str], kind: Kind, hour: int, window_ms: int, name: str
) -> tuple[str, Record, File] | None:
    """Whose compaction made a file of this name, or replaced it; the id, its newest record, and what the file holds."""
    for topic_id in topic_ids:
        for place in (place for place in Place if place.kind is kind):
            record = records.newest(store, Spot(topic, topic_id, place, hour, window_ms))
            for file, names in _files(record) if record is not None else ():
                if name in names and record is not None:
                    return topic_id, record, file
    return None


def parts_in(store: Store, spot: Spot, there: Collection[str]) -> tuple[dict[str, tuple[Part, ...]], frozenset[str]]:
    """Of a directory with files of these names: the parts of each that a compaction made, and the names of replaced
    ones that still hold what shows nowhere else yet. One list and one read at most.
    """
    record = records.newest(store, spot)
    if record is None:
        return {}, frozenset()
    needed = (
        layout.replaced_name(record.number, source.name)
        for made in record.made
        if made.name not in there
        for source in made.sources
    )
    return {file.name: file.parts for file in record.files}, frozenset(needed)


def _files(record: Record) -> Iterator[tuple[File, list[str]]]:
    """What it made, then what it was made of, as long as that is there, with the names each may have now."""
    for file in record.files:
        yield file, [file.name]
    for made in record.made:
        for source in made.sources:
            yield record.whole(source), [source.name, layout.replaced_name(record.number, source.name)]
