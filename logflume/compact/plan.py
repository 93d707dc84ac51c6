"""Which files of a directory are merged into which. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from logflume.compact.record import Made, Place, Record, Spot
from logflume.core import layout
from logflume.finish.plan import File, Plan


@dataclass(frozen=True, slots=True)
class Wish:
    """``files``: so many exactly, else files of about ``target_bytes``; ``rewrite``: copy each, so that its blocks
    are large.
    """

    target_bytes: int
    files: int | None = None
    rewrite: bool = False


def make_record(
    spot: Spot, number: int, at: int, files: Sequence[File], wish: Wish, *, manifest: Plan | None, can_concat: bool
) -> Record | None:
    """None where everything is as it is wished already. ``manifest``: of the hour, whose files these are."""
    groups = _group(sorted(files, key=_order), wish)
    changed = [group for group in groups if len(group) > 1 or wish.rewrite]
    if not changed:
        return None
    made = tuple(
        Made(
            layout.CompactedName(spot.topic, number, index, len(changed), spot.place is Place.APPENDED).file_name(
                extension(group[0])
            ),
            tuple(group),
        )
        for index, group in enumerate(changed)
    )
    by_first = {one.sources[0].name: one.file for one in made}
    after = tuple(by_first.get(group[0].name, group[0]) for group in groups)
    # a file that finishing or the daemon named needs no record
    kept = tuple(file for file in after if file not in by_first.values() and layout.parse_compacted_name(file.name))
    return Record(
        spot=spot,
        number=number,
        at=at,
        copy=wish.rewrite or not can_concat,
        made=made,
        kept=() if manifest is not None else kept,
        # merged by now, whatever it was when it was finished
        manifest=None if manifest is None else replace(manifest, files=after, reveal="complete"),
    )


def _order(file: File) -> tuple[int, int]:
    name = layout.parse_part_name(file.parts[0].path.rsplit("/", 1)[1])
    return (-1 if name is None else name.partition, file.parts[0].offsets.first)


def extension(file: File) -> str:
    name = file.parts[0].path.rsplit("/", 1)[1]
    return name[name.index(".") :]


def _group(files: Sequence[File], wish: Wish) -> list[list[File]]:
    kinds: dict[str, list[File]] = {}
    for file in files:
        kinds.setdefault(extension(file), []).append(file)
    if wish.files is None:
        return [group for alike in kinds.values() for group in _fill(alike, wish.target_bytes)]
    if len(kinds) > 1 or len(files) < wish.files:
        return [[file] for file in files]
    return _divide(files, wish.files)


def _fill(files: Sequence[File], target_bytes: int) -> list[list[File]]:
    """Groups as near to ``target_bytes`` as the order allows; what came out of it once stays as it is."""
    groups: list[list[File]] = []
    size = 0
    for file in files:
        if not groups or size + file.size - target_bytes > target_bytes - size:
            groups.append([])
            size = 0
        groups[-1].append(file)
        size += file.size
    return groups


def _divide(files: Sequence[File], count: int) -> list[list[File]]:
    """Exactly ``count`` groups, none empty, of about the same size."""
    groups: list[list[File]] = []
    left = sum(file.size for file in files)
    at = 0
    for remaining in range(count, 0, -1):
        group, size = [files[at]], files[at].size
        at += 1
        while len(files) - at >= remaining and (
            remaining == 1 or abs(size + files[at].size - left / remaining) <= abs(size - left / remaining)
        ):
            group.append(files[at])
            size += files[at].size
            at += 1
        left -= size
        groups.append(group)
    return groups
