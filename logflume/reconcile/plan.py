"""One hour as the ledgers have it against one hour as the files are. Pure: no call to a store.

A look at an hour is never one moment: a part may move from tmp into the directory, or from there into the
merged file, between two calls. So a finding counts only when it is there in several looks (see ``run``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from logflume.core import layout
from logflume.core.codec import part_json
from logflume.core.ledger import Part
from logflume.errors import LedgerError
from logflume.finish import plan as plans
from logflume.finish.plan import File, Plan
from logflume.model import Kind
from logflume.reconcile.chain import Decided
from logflume.reconcile.findings import Finding, Range, What
from logflume.reconcile.regroup import finished_files, regroup
from logflume.store.base import FileStatus

MARKERS = (layout.SUCCESS, layout.INCOMPLETE)


@dataclass(slots=True)
class Hour:
    """One hour of one topic id, as its chains say. ``boundaries`` has those closings that are still to be
    read; ``waits`` the partitions that have not closed it; ``closed_ms`` when the last one did, by its owner's
    clock. ``unknown(partition, first)``: an entry that is not there any more may have decided it; ``certain``: no
    such entry can have a part of this hour.
    """

    topic: str
    topic_id: str
    hour: int
    window_ms: int
    decided: list[Decided]
    boundaries: dict[int, int]
    waits: list[int]
    closed_ms: int | None
    certain: bool
    unknown: Callable[[int, int], bool]
    due: bool

    @property
    def directory(self) -> str:
        return layout.hour_path(self.topic, self.hour, self.window_ms)

    @property
    def name(self) -> str:
        return layout.hour_name(self.hour, self.window_ms)

    def finding(self, what: What, path: str, detail: str, ranges: Sequence[Range] = (), hint: str = "") -> Finding:
        partition = ranges[0][0] if len(ranges) == 1 else None
        return Finding(what, self.topic, path, detail, self.topic_id, partition, self.name, tuple(ranges), hint)


@dataclass(slots=True)
class Look:
    """The hour's directory as it was seen: its files by name, its marker and its plan, as bytes."""

    files: Mapping[str, FileStatus]
    marker: tuple[str, bytes] | None = None
    plan: bytes | None = None
    #: lengths of decided parts that are in tmp still
    in_tmp: dict[str, int] = field(default_factory=dict)

    @property
    def marked_ms(self) -> int:
        """When the marker was put, by the store's clock; only of a marked hour."""
        return 0 if self.marker is None else self.files[self.marker[0]].modified_ms


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found; ``marked`` with the manifest, ``extra`` names that no decided part has. ``gone``: there is
    nothing, and proof begins after this hour: somebody keeps data for a shorter time than the ledger does.
    ``under_way``: marked just now, and its finisher has something left to do.
    """

    findings: tuple[Finding, ...]
    manifest: Plan | None = None
    extra: tuple[str, ...] = ()
    gone: bool = False
    under_way: bool = False

    @property
    def marked(self) -> bool:
        return self.manifest is not None


def check(hour: Hour, look: Look, *, settled_ms: int) -> Verdict:
    """What was decided or closed after ``settled_ms`` may be in somebody's hands still."""
    if look.marker is not None:
        return _check_marked(hour, look, *look.marker, settled_ms)
    return _check_unmarked(hour, look, settled_ms)


# -- marked ---------------------------------------------------------------------------------------


def _check_marked(hour: Hour, look: Look, name: str, data: bytes, settled_ms: int) -> Verdict:
    path = f"{hour.directory}/{name}"
    try:
        manifest = plans.decode(data)
    except LedgerError as error:
        return Verdict((hour.finding(What.MARKER_WRONG, path, str(error), hint=_MARKER_HINT),))
    found = [
        hour.finding(What.MARKER_WRONG, path, problem, hint=_MARKER_HINT)
        for problem in _marker_problems(hour, manifest, name, data)
    ]
    if hour.waits and name == layout.SUCCESS:
        waits = ", ".join(str(number) for number in hour.waits)
        found.append(hour.finding(What.MARKER_EARLY, path, f"not closed by partition {waits}", hint=_MARKER_HINT))
    found += [finding for file in manifest.files for finding in _check_file(hour, look, file)]
    both = set(MARKERS) <= look.files.keys()
    under_way = both and look.marked_ms > settled_ms
    # where this one is wrong, the other may be the right one
    if both and not under_way and not any(one.what is What.MARKER_WRONG for one in found):
        path = f"{hour.directory}/{layout.INCOMPLETE}"
        found.append(hour.finding(What.REVEAL_LEFT, path, "the hour was revealed, and is complete by now"))
    named = {part.name: file for file in manifest.files for part in file.parts}
    visible = {file.name for file in manifest.files}
    extra = []
    for other in look.files:
        if other in visible or other in MARKERS:
            continue
        if other in named:
            whole = look.files.get(named[other].name)
            if whole is not None and whole.length == named[other].size:  # else it may be the only copy
                detail = f"{named[other].name} holds its bytes already"
                found.append(hour.finding(What.PART_LEFT, f"{hour.directory}/{other}", detail))
        else:
            extra.append(other)
    return Verdict(tuple(found), manifest, tuple(extra), under_way=under_way)


_MARKER_HINT = "find out who wrote it; with the marker moved away, reconcile --repair writes the right one"


def _marker_problems(hour: Hour, manifest: Plan, name: str, data: bytes) -> Iterator[str]:
    """What the marker says otherwise than the ledger, one problem for all that is alike."""
    if (manifest.topic, manifest.topic_id, manifest.hour) != (hour.topic, hour.topic_id, hour.hour):
        of_hour = layout.hour_name(manifest.hour, manifest.window_ms)
        yield f"it is of topic {manifest.topic} ({manifest.topic_id}), hour {of_hour}"
        return
    if plans.encode(manifest) != data:
        yield "it was edited: its parts do not add up to what it says"
    if manifest.marker != name:
        yield f"its content belongs into {manifest.marker}"
    listed = {part.path: part for file in manifest.files for part in file.parts}
    left = [one for one in hour.decided if one.part.path not in listed and _is_settled(manifest, one)]
    if left:
        yield f"{len(left)} decided parts are not in it: {_few(left)}"
    known = {one.part.path: one.part for one in hour.decided}
    other = [path for path, part in listed.items() if path in known and not same_part(part, known[path])]
    if other:
        yield f"it says other than the ledger of {', '.join(sorted(other)[:3])}"
    strange = [path for path in listed if path not in known and not _may_be(hour, path)]
    if strange:
        yield f"{len(strange)} parts of it were never decided: {', '.join(sorted(strange)[:3])}"
    for number, boundary in hour.boundaries.items():
        one = manifest.partitions.get(number)
        if one is not None and one["boundary"] != boundary:
            yield f"boundary of partition {number}: {one['boundary']} instead of {boundary}"


def _is_settled(manifest: Plan, one: Decided) -> bool:
    """An incomplete hour that was revealed as it is may get parts of partitions that had not closed it."""
    return not manifest.incomplete or one.pid.partition in manifest.partitions


def _may_be(hour: Hour, path: str) -> bool:
    name = layout.parse_part_name(path.rsplit("/", 1)[1])
    return name is not None and hour.unknown(name.partition, name.first)


def same_part(one: Part, other: Part) -> bool:
    return part_json(one) == part_json(other)


def _few(decided: Sequence[Decided]) -> str:
    shown = [f"{one.part.path} (entry {one.seq} of {one.pid})" for one in decided[:3]]
    return ", ".join(shown) + (" …" if len(decided) > 3 else "")


def _check_file(hour: Hour, look: Look, file: File) -> Iterator[Finding]:
    path, there = f"{hour.directory}/{file.name}", look.files.get(file.name)
    ranges = [_range(part) for part in file.parts]
    if there is None:
        yield hour.finding(What.FILE_MISSING, path, f"{file.size} bytes, {len(file.parts)} parts", ranges)
    elif there.length != file.size or there.is_dir:
        detail = f"{there.length} bytes instead of {file.size}"
        yield hour.finding(What.FILE_LENGTH, path, detail, ranges)


def _range(part: Part) -> Range:
    name = layout.parse_part_name(part.name)
    return (name.partition if name is not None else -1, part.offsets.first, part.offsets.last)


# -- not marked -----------------------------------------------------------------------------------


def _check_unmarked(hour: Hour, look: Look, settled_ms: int) -> Verdict:
    found: list[Finding] = []
    plan: Plan | None = None
    if look.plan is not None:
        path = layout.plan_path(hour.topic, hour.topic_id, hour.hour, hour.window_ms)
        try:
            plan = plans.decode(look.plan)
        except LedgerError as error:
            found.append(hour.finding(What.PLAN_WRONG, path, str(error), hint=_PLAN_HINT))
        else:
            found += [hour.finding(What.PLAN_WRONG, path, p, hint=_PLAN_HINT) for p in _plan_problems(hour, plan)]
    finished = finished_files(hour.topic, look.files)
    files = list(plan.files) if plan is not None else regroup(hour.decided, finished)
    if files is None:
        # the marker of a finished hour is gone, and what its files were made of cannot be told
        detail = (
            f"{len(finished)} finished files that the decided parts do not explain: {', '.join(sorted(finished)[:3])}"
        )
        what = What.FILE_LENGTH if hour.certain else What.MARKER_LOST
        found.append(hour.finding(what, hour.directory, detail, [one.range for one in hour.decided]))
        return Verdict(tuple(found))
    covered, named = set(), set()
    for file in files:
        explained, problems = _merging(hour, look, file)
        covered |= explained
        named.add(file.name)
        found += problems
    found += [
        finding
        for one in hour.decided
        if one.part.path not in covered
        for finding in check_alone(hour.finding, look, one, settled_ms)
    ]
    if hour.due and (hour.closed_ms is None or hour.closed_ms <= settled_ms):
        found += _no_marker(hour, look)
    known = named | {one.name for one in hour.decided} | set(MARKERS)
    gone = hour.due and not hour.certain and not look.files and not hour.decided
    return Verdict(tuple(found), None, tuple(name for name in look.files if name not in known), gone)


_PLAN_HINT = "with the plan moved away the finisher makes a new one; find out who wrote it"


def _plan_problems(hour: Hour, plan: Plan) -> Iterator[str]:
    if (plan.topic, plan.topic_id, plan.hour) != (hour.topic, hour.topic_id, hour.hour):
        yield "it is of another topic or hour"
        return
    listed = {part.path: part for file in plan.files for part in file.parts}
    known = {one.part.path: one.part for one in hour.decided}
    if any(path not in listed for path in known) and not plan.incomplete:
        yield "decided parts are not in it"
    if any(path in known and not same_part(part, known[path]) for path, part in listed.items()):
        yield "it says other than the ledger of its parts"
    if any(path not in known and not _may_be(hour, path) for path in listed):
        yield "parts of it were never decided"


def _no_marker(hour: Hour, look: Look) -> Iterator[Finding]:
    path = f"{hour.directory}/{layout.SUCCESS}"
    if hour.certain:
        yield hour.finding(What.MARKER_MISSING, path, "closed by every partition, and nobody finishes it")
    elif look.files:
        hint = "its files cannot be proved any more; look at them, and write the marker by hand if they are right"
        yield hour.finding(What.MARKER_LOST, path, "entries that had a part of this hour are dropped", hint=hint)


def _merging(hour: Hour, look: Look, file: File) -> tuple[set[str], list[Finding]]:
    """Parts that a merge explains although they are not there under their own name, and what is wrong with it."""
    paths = [part.path for part in file.parts]
    if file.name in look.files:
        return set(paths), list(_check_file(hour, look, file))
    first = look.files.get(paths[0].rsplit("/", 1)[1])
    size = 0
    for done, part in enumerate(file.parts, 1):
        size += part.size
        if first is not None and first.length == size:
            return set(paths[:done]), []
    return set(), []


def check_alone(finding: Callable[..., Finding], look: Look, one: Decided, settled_ms: int) -> Iterator[Finding]:
    """A decided part that has to be under its own name, or in tmp for a moment."""
    part, there = one.part, look.files.get(one.name)
    by = f"entry {one.seq} of {one.pid}"
    if there is None and one.name.startswith("_") and one.part.kind is not Kind.HOUR:
        there = look.files.get(one.name[1:])  # appended and shown
    if there is None:
        length = look.in_tmp.get(part.tmp)
        if length is None:
            yield finding(What.FILE_MISSING, part.path, f"decided by {by}, {part.count} records", [one.range])
        elif length != part.size:
            detail = f"decided by {by}, and in tmp it has {length} bytes instead of {part.size}"
            yield finding(What.FILE_LENGTH, part.path, detail, [one.range])
        elif one.at <= settled_ms:
            yield finding(What.PART_UNPUBLISHED, part.path, f"decided by {by}, and still {part.tmp}", [one.range])
    elif there.length != part.size or there.is_dir:
        detail = f"decided by {by}: {there.length} bytes instead of {part.size}"
        yield finding(What.FILE_LENGTH, part.path, detail, [one.range])
    elif is_hidden(look, one) and look.marker is not None and max(one.at, look.marked_ms) <= settled_ms:
        detail = f"decided by {by}; its hour is marked, and it does not show"
        yield finding(What.PART_HIDDEN, part.path, detail, [one.range])


def is_hidden(look: Look, one: Decided) -> bool:
    """A late part that is to be appended to its hour, and does not show yet: its owner, or the hour's finisher, does
    that after the hour is marked.
    """
    return one.part.kind is Kind.LATE and one.name.startswith("_") and one.name in look.files


def absent(decided: Sequence[Decided], look: Look) -> list[Decided]:
    """Parts that are not under their own name: the caller looks for them in tmp."""
    return [one for one in decided if one.name not in look.files]
