"""What an hour will look like: which parts, in which order, into which files. Pure.

The plan is the manifest: ``_SUCCESS`` has the plan's very bytes. Whoever puts the plan first fixes it, so
that finishers with different configurations or different counts of late records write the same hour.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from logflume.core import layout
from logflume.core.codec import part_from, part_json
from logflume.core.ledger import Closing, Part
from logflume.errors import LedgerError

FORMAT = 1

#: ``reveal`` of a plan and marker by ``logflume reveal``: the hour is shown as it is, and still to be finished
OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class PartitionHour:
    """What one partition contributes: its parts, its boundary, and why it cannot vouch for the hour, if so."""

    parts: tuple[Part, ...]
    closing: Closing
    unknown: tuple[str, ...] = ()
    late: int = 0
    quarantined: int = 0
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class File:
    """One visible file: its name in the hour's directory and the parts it is made of, in order."""

    name: str
    parts: tuple[Part, ...]

    @property
    def size(self) -> int:
        return sum(part.size for part in self.parts)

    def start_of(self, part: Part) -> int:
        """Where a part begins in it, in bytes. Raises ValueError where it has none of this path."""
        at = 0
        for one in self.parts:
            if one.path == part.path:
                return at
            at += one.size
        raise ValueError(f"{self.name} has no part {part.path}")


@dataclass(frozen=True, slots=True)
class Plan:
    topic: str
    topic_id: str
    hour: int
    window_ms: int
    reveal: str
    incomplete: tuple[str, ...]
    files: tuple[File, ...]
    partitions: Mapping[int, Mapping[str, Any]]
    late: int
    quarantined: int
    dropped: int

    @property
    def marker(self) -> str:
        """The marker's name: an hour that may miss records is never called a success."""
        return layout.INCOMPLETE if self.incomplete else layout.SUCCESS

    @property
    def directory(self) -> str:
        """Relative to the root."""
        return layout.hour_path(self.topic, self.hour, self.window_ms)


def make_plan(
    topic: str,
    topic_id: str,
    hour: int,
    window_ms: int,
    partitions: Mapping[int, PartitionHour],
    *,
    target_bytes: int,
    reveal: str,
) -> Plan:
    """Parts in order of partition and offset, filled into files of about ``target_bytes``; a part is never split."""
    parts = [part for _, one in sorted(partitions.items()) for part in sorted(one.parts, key=lambda p: p.offsets.first)]
    if reveal == "early":
        files = _each_alone(parts)
    else:
        groups = _fill(parts, target_bytes)
        files = [
            File(layout.finished_name(topic, i, len(groups), _extension(group[0].path)), tuple(group))
            for i, group in enumerate(groups)
        ]
    return Plan(
        topic=topic,
        topic_id=topic_id,
        hour=hour,
        window_ms=window_ms,
        reveal=reveal,
        incomplete=tuple(
            f"partition {number}: {reason}" for number, one in sorted(partitions.items()) for reason in one.unknown
        ),
        files=tuple(files),
        partitions={
            number: {
                "boundary": one.closing.boundary,
                "reason": one.closing.reason,
                "closed_ms": one.closing.at,
                "records": sum(part.count for part in one.parts),
            }
            for number, one in sorted(partitions.items())
        },
        late=sum(one.late for one in partitions.values()),
        quarantined=sum(one.quarantined for one in partitions.values()),
        dropped=sum(one.dropped for one in partitions.values()),
    )


def by_parts(plan: Plan) -> Plan:
    """The same hour with each part as a file of its own: what an operator has revealed stays as it is."""
    return replace(plan, files=tuple(_each_alone([part for file in plan.files for part in file.parts])))


def _each_alone(parts: Sequence[Part]) -> list[File]:
    # by its visible name: also under reveal = "early" one that was decided while the setting was another is hidden
    return [File(visible_name(part), (part,)) for part in parts]


def alike(one: Plan, other: Plan) -> bool:
    """Whether two plans differ in check sums only, as before and after a repair that came out in other bytes."""
    return _without_sums(one) == _without_sums(other)


def _without_sums(plan: Plan) -> Plan:
    return replace(
        plan,
        files=tuple(replace(file, parts=tuple(replace(p, sha256="") for p in file.parts)) for file in plan.files),
    )


def visible_name(part: Part) -> str:
    """A part's file name without the underscore that hides it."""
    return part.name.removeprefix("_")


def is_operators(data: bytes) -> bool:
    """Whether a marker or plan is from ``logflume reveal``; False for what cannot be read."""
    try:
        return decode(data).reveal == OPERATOR
    except LedgerError:
        return False


def _extension(path: str) -> str:
    name = path.rsplit("/", 1)[1]
    return name[name.index(".") :]


def _fill(parts: Sequence[Part], target_bytes: int) -> list[list[Part]]:
    """Groups of about ``target_bytes``; parts of different formats (a changed configuration) never mix."""
    groups: list[list[Part]] = []
    size = 0
    for part in parts:
        fresh = not groups or _extension(groups[-1][0].path) != _extension(part.path)
        # into the file whose size comes closer to the target: with this part, or without it
        if fresh or size + part.size - target_bytes > target_bytes - size:
            groups.append([])
            size = 0
        groups[-1].append(part)
        size += part.size
    return groups


def encode(plan: Plan) -> bytes:
    """The manifest as indented JSON: people look at it."""
    body = {
        "v": FORMAT,
        "topic": plan.topic,
        "topic_id": plan.topic_id,
        "hour": layout.hour_name(plan.hour, plan.window_ms),
        "start_ms": plan.hour,
        "window_ms": plan.window_ms,
        "reveal": plan.reveal,
        "complete": not plan.incomplete,
        "incomplete": list(plan.incomplete),
        "records": sum(part.count for file in plan.files for part in file.parts),
        "bytes": sum(file.size for file in plan.files),
        "late_so_far": plan.late,
        "quarantined_so_far": plan.quarantined,
        "dropped_so_far": plan.dropped,
        "partitions": {str(number): one for number, one in plan.partitions.items()},
        "files": [
            {
                "name": file.name,
                "bytes": file.size,
                "count": sum(part.count for part in file.parts),
                "segments": [_segment(part) for part in file.parts],
            }
            for file in plan.files
        ],
    }
    return json.dumps(body, indent=1).encode() + b"\n"


def _segment(part: Part) -> dict[str, Any]:
    name = layout.parse_part_name(part.name)
    if name is None:
        raise LedgerError(f"{part.path} is not the name of a part")
    return {"partition": name.partition, "first": name.first, **part_json(part)}


def decode(data: bytes) -> Plan:
    """Inverse of ``encode``. Raises LedgerError."""
    try:
        body = json.loads(data)
        if body["v"] != FORMAT:
            raise LedgerError(f"the plan has format {body['v']!r}, and this program knows {FORMAT}")
        return Plan(
            topic=body["topic"],
            topic_id=body["topic_id"],
            hour=body["start_ms"],
            window_ms=body["window_ms"],
            reveal=body["reveal"],
            incomplete=tuple(body["incomplete"]),
            files=tuple(
                File(file["name"], tuple(part_from(segment) for segment in file["segments"])) for file in body["files"]
            ),
            partitions={int(number): one for number, one in body["partitions"].items()},
            late=body["late_so_far"],
            quarantined=body["quarantined_so_far"],
            dropped=body["dropped_so_far"],
        )
    except (ValueError, KeyError, TypeError) as error:
        raise LedgerError(f"the plan cannot be read: {type(error).__name__}: {error}") from error
