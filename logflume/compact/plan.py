"""Which files of a directory are merged into which. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from logflume.compact.record import Made, Place, Record, Spot
from logflume.core import layout
from logflume.errors import UsageError
from logflume.finish.plan import File, Plan


@dataclass(frozen=True, slots=True)
class Wish:
    """``files``: so many exactly, else files of about ``target_bytes``; ``rewrite``: copy each, so that its blocks
    are large; ``split``: cut files that are too large, between the parts that they are made of.
    """

    target_bytes: int
    files: int | None = None
    rewrite: bool = False
    split: bool = False


def make_record(
    spot: Spot, number: int, at: int, files: Sequence[File], wish: Wish, *, manifest: Plan | None, can_concat: bool
) -> Record | None:
    """None where everything is as it is wished already. ``manifest``: of the hour, whose files these are.

    Raises UsageError where the files cannot be cut into as many as are wished.
    """
    whole = {file.name: file for file in files}
    cut = wish.split or (wish.files is not None and 0 < len(files) < wish.files)
    groups = _cut(spot, files, wish) if cut else _group(sorted(files, key=_order), wish)
    changed = [group for group in groups if _changes(group, whole, wish)]
    if not changed:
        return None
    ext, appended = extension, spot.place is Place.APPENDED
    names = [layout.CompactedName(spot.topic, number, index, len(changed), appended) for index in range(len(changed))]
    made = [Made(name.file_name(ext(group[0])), tuple(group)) for name, group in zip(names, changed, strict=True)]
    left = iter(made)
    after = tuple(next(left).file if _changes(group, whole, wish) else group[0] for group in groups)
    # a file that finishing or the daemon named needs no record
    kept = tuple(file for file in after if file.name in whole and layout.parse_compacted_name(file.name))
    pieces = {source.name for one in made for source in one.sources if source != whole[source.name]}
    return Record(
        spot=spot,
        number=number,
        at=at,
        copy=wish.rewrite or bool(pieces) or not can_concat,
        made=tuple(made),
        kept=() if manifest is not None else kept,
        # merged by now, whatever it was when it was finished
        manifest=None if manifest is None else replace(manifest, files=after, reveal="complete"),
        cut=tuple(whole[name] for name in sorted(pieces)),
    )


def _changes(group: Sequence[File], whole: Mapping[str, File], wish: Wish) -> bool:
    return len(group) > 1 or wish.rewrite or group[0] != whole[group[0].name]


def _cut(spot: Spot, files: Sequence[File], wish: Wish) -> list[list[File]]:
    """Groups of pieces: a piece is a file, or some parts of it that follow each other."""
    # by part, whatever file has it: so a second run comes to the same groups
    pieces = sorted((File(file.name, (part,)) for file in files for part in file.parts), key=_order)
    if wish.files is not None and len({extension(piece) for piece in pieces}) > 1:
        raise UsageError(f"{spot.directory} has files of several formats, which are not mixed")
    if wish.files is not None and len(pieces) < wish.files:
        raise UsageError(
            f"{spot.directory} cannot be cut into {wish.files} files: it is made of {len(pieces)} parts, and a part is "
            "never cut, since nothing is compressed anew",
            hint=f"--files {len(pieces)} at most; smaller parts come with a smaller roll_bytes or roll_every",
        )
    places = {(file.name, part.path): i for file in files for i, part in enumerate(file.parts)}
    return [_joined(group, places) for group in _group(pieces, wish)]


def _joined(pieces: Sequence[File], places: Mapping[tuple[str, str], int]) -> list[File]:
    """Pieces that follow each other in one file are one."""
    joined: list[File] = []
    for piece in pieces:
        at = places[piece.name, piece.parts[0].path]
        if joined and joined[-1].name == piece.name and places[piece.name, joined[-1].parts[-1].path] + 1 == at:
            joined[-1] = File(piece.name, joined[-1].parts + piece.parts)
        else:
            joined.append(piece)
    return joined


def _order(file: File) -> tuple[int, int]:
    name = layout.parse_part_name(file.parts[0].name)
    return (-1 if name is None else name.partition, file.parts[0].offsets.first)


def extension(file: File) -> str:
    name = file.parts[0].name
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
