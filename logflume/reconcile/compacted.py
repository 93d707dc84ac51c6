"""Where parts are after a compaction: its record says which files became which."""

from __future__ import annotations

from collections.abc import Iterable

from logflume.compact import record as records
from logflume.compact.record import Made, Place, Record, Spot
from logflume.core import layout
from logflume.errors import LedgerError
from logflume.finish import plan as plans
from logflume.finish.plan import File
from logflume.model import Kind
from logflume.reconcile.plan import MARKERS, Look
from logflume.store.base import FileStatus, Store


def place_of(directory: str, *, hour: bool = False) -> Place:
    """By a directory's path; an hour's own has the hour's files and, of another record, appended ones."""
    if directory.startswith(f"{layout.LATE_ROOT}/"):
        return Place.LATE
    if directory.startswith(f"{layout.QUARANTINE_ROOT}/"):
        return Place.QUARANTINE
    return Place.HOUR if hour else Place.APPENDED


def concerns(names: Iterable[str]) -> bool:
    """Whether a compaction has to do with files of these names, so that its record is worth a look."""
    return any(
        layout.parse_compacted_name(name) is not None or layout.parse_replaced_name(name) is not None for name in names
    )


def newest(
    store: Store, topic: str, topic_ids: Iterable[str], directory: str, place: Place, window_ms: int
) -> list[Record]:
    """The newest record of each id; two calls for each."""
    tree = next(path for path in (layout.tree(kind, topic) for kind in Kind) if directory.startswith(f"{path}/"))
    hour = layout.parse_hour_directory(directory.removeprefix(f"{tree}/"))
    found = (records.newest(store, Spot(topic, topic_id, place, hour, window_ms)) for topic_id in topic_ids)
    return [record for record in found if record is not None]


def names(record: Record) -> set[str]:
    """Files that are explained: what compactions made, and what they have hidden for a while."""
    hidden = {layout.replaced_name(record.number, source.name) for made in record.made for source in made.sources}
    return {file.name for file in record.files} | hidden


def is_explained(name: str, found: Iterable[Record]) -> bool:
    """Also what an earlier compaction has hidden: its own record, and not the newest, has the names of those."""
    number = layout.parse_replaced_name(name)
    return any(name in names(one) or (number is not None and number < one.number) for one in found)


def is_left(record: Record, files: dict[str, FileStatus]) -> bool:
    """Whether it was begun and is not carried out."""
    whole = all(made.name in files and files[made.name].length == made.size for made in record.made)
    return not whole or (record.manifest is not None and not any(name in files for name in MARKERS))


def unfold(record: Record, look: Look) -> list[File]:
    """Put the parts of merged files into the look as if they were under their own names; returns the merged files
    that are whole.
    """
    files = dict(look.files)
    whole = []
    for file in record.files:
        if file.name in files and files[file.name].length == file.size:
            whole.append(file)
            _show(file, files)
    for made in record.made:
        _unfold_begun(record, made, files)
    look.files = files
    return whole


def twice(merged: str) -> str:
    """What is said of a file that shows beside the merged one that holds it."""
    return f"its records are in {merged}, too, which it was merged into: when that one is whole, remove this one"


def _unfold_begun(record: Record, made: Made, files: dict[str, FileStatus]) -> None:
    """A source is in the new file already, or there under its own name, or hidden."""
    size, length = 0, files[made.name].length if made.name in files else -1
    prefix = {0}
    for source in made.sources:
        size += source.size
        prefix.add(size)
    size = 0
    for source in made.sources:
        size += source.size
        there = files.get(source.name) or files.get(layout.replaced_name(record.number, source.name))
        if (length in prefix and size <= length) or (there is not None and there.length == record.whole(source).size):
            _show(source, files)


def _show(file: File, files: dict[str, FileStatus]) -> None:
    for part in file.parts:
        name = part.name.removeprefix("_")
        files.setdefault(name, FileStatus(part.path, part.size, is_dir=False, modified_ms=0))


def planned(look: Look) -> list[str]:
    """Names of the files in an hour's plan: a compaction puts one before it takes the marker away."""
    try:
        return [] if look.plan is None else [file.name for file in plans.decode(look.plan).files]
    except LedgerError:
        return []
