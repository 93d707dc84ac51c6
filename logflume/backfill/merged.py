"""Whether a compaction, on whatever host, has taken what a repair is about to put back."""

from __future__ import annotations

from logflume.backfill.look import Mend
from logflume.compact import record as records
from logflume.compact.record import Made, Place, Record, Spot
from logflume.core import layout
from logflume.store.base import Store


def merged_into(store: Store, mend: Mend) -> str | None:
    """The other file that has parts of this one: beside it they would show twice.

    A compaction puts its record before it touches a file. So what is said once the file is in its place holds: one
    whose record comes later takes what is there.
    """
    name = mend.path.rsplit("/", 1)[1]
    if layout.parse_replaced_name(name) is not None:
        return None  # shows nothing
    part = mend.parts[0]
    spot = Spot(mend.topic, mend.topic_id, Place.of(part), part.hour, mend.window_ms)
    record = records.newest(store, spot)
    if record is None:
        return None
    own = {part.path for part in mend.parts}
    for file in record.kept:
        if file.name != name and own & {part.path for part in file.parts}:
            return f"{spot.directory}/{file.name}"
    for made in record.made:
        if made.name != name and own & _taken(store, record, made):
            return f"{spot.directory}/{made.name}"
    return None


def _taken(store: Store, record: Record, made: Made) -> set[str]:
    """Paths of the parts that a new file has, or will have without what is in their place."""
    there = {status.name: status.length for status in store.list(f"{store.root}/{record.spot.directory}")}
    length, size = there.get(made.name, 0), 0
    taken: set[str] = set()
    for source in made.sources:
        size += source.size
        # by concat it grows source by source; a copy is shown at once, after its sources were hidden
        if size <= length or layout.replaced_name(record.number, source.name) in there:
            taken |= {part.path for part in source.parts}
    return taken
