"""Which parts finished files are made of, where no marker and no plan says so. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from logflume.core import layout
from logflume.core.ledger import Part
from logflume.finish.plan import File
from logflume.reconcile.chain import Decided
from logflume.store.base import FileStatus


def finished_files(topic: str, files: Mapping[str, FileStatus]) -> dict[str, int]:
    """Visible merged files by name, with their length."""
    parsed = {name: layout.parse_finished_name(name) for name in files}
    return {name: files[name].length for name, found in parsed.items() if found is not None and found[0] == topic}


def regroup(decided: Sequence[Decided], finished: Mapping[str, int]) -> list[File] | None:
    """Which parts these finished files are made of; None if their lengths do not fit.

    Parts have one order, so only the places where a file ends are to be found, and the configuration
    that set them may be another one by now.
    """
    if not finished:
        return []
    parts = ordered(decided)
    files: list[File] = []
    at = 0
    indexed = sorted((found[1], found[2], name) for name in finished if (found := layout.parse_finished_name(name)))
    for position, (index, count, name) in enumerate(indexed):
        size, begin = 0, at
        while at < len(parts) and (size < finished[name]):
            size += parts[at].size
            at += 1
        if size != finished[name] or index != position or count != indexed[0][1]:
            return None
        files.append(File(name, tuple(parts[begin:at])))
    # a finisher that was killed may have revealed only the first files
    return files if at == len(parts) or len(indexed) < indexed[0][1] else None


def ordered(decided: Sequence[Decided]) -> list[Part]:
    """The parts of an hour in the order that finishing gives them."""
    return [one.part for one in sorted(decided, key=lambda one: (one.pid.partition, one.part.offsets.first))]
