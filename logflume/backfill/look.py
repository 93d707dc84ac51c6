"""Which files of a root are not what was decided: every part of them against its decided check sum.

A part lies under its own name, or, when its hour is merged, in a range of another file. The hour's marker says which;
before it is there, the plan does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from logflume import commit
from logflume.backfill import amend
from logflume.backfill.model import Job
from logflume.compact import record as records
from logflume.compact.record import Place, Record, Spot
from logflume.core import layout
from logflume.core.ledger import Part
from logflume.errors import Incomplete, LedgerError, Missing, StoreError
from logflume.finish import plan as plans
from logflume.finish.plan import File, Plan
from logflume.model import Kind, OffsetSet
from logflume.store.base import FileStatus, Store


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be looked at: all where nothing is said. ``offsets`` is [first, end)."""

    topic: str
    hours: tuple[int, ...] = ()
    partitions: tuple[int, ...] = ()
    offsets: tuple[int, int] | None = None

    def has(self, part: Part) -> bool:
        if self.hours and part.hour not in self.hours:
            return False
        if self.partitions and partition_of(part) not in self.partitions:
            return False
        return self.offsets is None or bool(part.offsets & OffsetSet.run(*self.offsets))


@dataclass(frozen=True, slots=True)
class Mend:
    """A file that has to be made again: ``parts`` in their order, ``bad`` the places of those that are not intact in
    what is there, which has ``length`` bytes (None: nothing is there); none are bad in a file that is whole. ``plan``
    is what the hour was merged by, or will be, with the check sums that hold now.
    """

    topic: str
    topic_id: str
    window_ms: int
    path: str
    parts: tuple[Part, ...]
    bad: tuple[int, ...]
    length: int | None
    plan: Plan | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return self.path

    @property
    def records(self) -> int:
        return sum(self.parts[i].count for i in self.bad)


@dataclass(frozen=True, slots=True)
class Found:
    """``mends``: files to be made again. ``plans``: of hours whose marker a repair, or a finisher, that died has left
    to be put, or that has check sums from before a repair. ``whole``: files that are right, and of which a repair that
    died has left uploads. ``skipped``: what was not looked at, since a compaction of it is not done. ``looked``: how
    many decided parts were compared.
    """

    mends: tuple[Mend, ...]
    plans: tuple[Plan, ...]
    whole: tuple[Mend, ...] = ()
    skipped: tuple[str, ...] = ()
    looked: int = field(default=0, compare=False)


def partition_of(part: Part) -> int:
    name = layout.parse_part_name(part.name)
    if name is None:
        raise LedgerError(f"{part.path} is not the name of a part")
    return name.partition


def find(store: Store, job: Job, topic_id: str, wanted: Wanted) -> Found:
    """Reads every file that holds a wanted part. Raises store errors, LedgerError, Stopped where the window is another
    than the ledger's, and Incomplete where nothing is known of what is wanted.
    """
    commit.check_ledgers_window(store, wanted.topic, topic_id, job.settings.window_ms)
    amended = amend.read(store, wanted.topic, topic_id)
    decided = amend.apply(_decided(store, wanted, topic_id), amended)
    hours = {part.hour for part in decided if part.kind is Kind.HOUR} | set(wanted.hours)
    found: list[Mend] = []
    left: list[Plan] = []
    window_ms = job.settings.window_ms
    compacted = Compacted(store, wanted.topic, topic_id, window_ms, amended)
    for hour in sorted(hours):
        parts = [part for part in decided if part.kind is Kind.HOUR and part.hour == hour]
        mends, plan = _hour(store, wanted, topic_id, hour, window_ms, parts, compacted)
        found += mends
        left += [] if plan is None else [plan]
    for part in decided:
        if part.kind is not Kind.HOUR and not compacted.takes(part):
            found += _alone(store, wanted.topic, topic_id, window_ms, part)
    found += compacted.look()
    looked = {part.path for part in decided} | {part.path for mend in found for part in mend.parts}
    if (
        not looked
        and not compacted.skipped
        and not any(_is_marked(store, job, topic_id, wanted, hour) for hour in wanted.hours)
    ):
        raise Incomplete(
            f"no decided part of what was asked for is known below {store.url}: nothing was looked at",
            hint="parts past ledger_retention are found by --hours, not by --offsets; else look at output.root, and "
            "whether the topic was re-created",
        )
    stems = {status.name[: len(layout.repaired_name(""))] for status in uploads_of(store, wanted.topic, topic_id)}
    return Found(
        tuple(mend for mend in found if mend.bad),
        tuple(left),
        tuple(mend for mend in found if not mend.bad and layout.repaired_name(mend.path) in stems),
        tuple(compacted.skipped),
        len(looked),
    )


def _is_marked(store: Store, job: Job, topic_id: str, wanted: Wanted, hour: int) -> bool:
    """Also an hour without a record."""
    directory = layout.hour_path(wanted.topic, hour, job.settings.window_ms)
    found = (_read_plan(store, f"{directory}/{name}") for name in (layout.SUCCESS, layout.INCOMPLETE))
    return any(plan is not None and plan.topic_id == topic_id for plan in found)


def uploads_of(store: Store, topic: str, topic_id: str) -> list[FileStatus]:
    """What repairs have uploaded and not put in its place."""
    found = store.list(f"{store.root}/{layout.topic_directory(topic, topic_id)}/tmp")
    return [status for status in found if status.name.startswith(layout.REPAIRED)]


class Compacted:
    """Where ``logflume compact`` has put late and quarantined parts: its newest record of a directory tells."""

    def __init__(self, store: Store, topic: str, topic_id: str, window_ms: int, amended: dict[str, Part]) -> None:
        self._store, self._topic, self._topic_id, self._window_ms = store, topic, topic_id, window_ms
        self.amended = amended
        self._hours = {place: records.hours(store, topic, topic_id, place) for place in Place}
        self._records: dict[Spot, Record | None] = {}
        self._files: dict[str, tuple[Record, File]] = {}
        self.skipped: list[str] = []

    def under_way(self, hour: int, there: dict[str, int]) -> bool:
        """Whether an hour without marker is in the hands of a compaction, its files ``there`` not all made yet."""
        if hour not in self._hours[Place.HOUR]:
            return False
        record = records.newest(self._store, Spot(self._topic, self._topic_id, Place.HOUR, hour, self._window_ms))
        return record is not None and any(there.get(made.name) != made.size for made in record.made)

    def takes(self, part: Part) -> bool:
        """Whether a part is in a file of a compaction, which is looked at as a whole then."""
        place = Place.of(part)
        if part.hour not in self._hours[place]:
            return False
        spot = Spot(self._topic, self._topic_id, place, part.hour, self._window_ms)
        if spot not in self._records:
            self._records[spot] = records.newest(self._store, spot)
        record = self._records[spot]
        if record is None:
            return False
        for file in record.files:
            if any(one.path == part.path for one in file.parts):
                self._files[f"{spot.directory}/{file.name}"] = record, file
                return True
        return False

    def look(self) -> list[Mend]:
        """At files of compactions. One that is not there while its sources are is not made yet."""
        found = []
        for path, (record, file) in self._files.items():
            parts = tuple(amend.apply(file.parts, self.amended))
            bad, length = bad_parts(self._store, path, parts)
            if bad and self._is_to_be_made(record, file, length):
                self.skipped.append(path)
            else:
                found.append(Mend(self._topic, self._topic_id, self._window_ms, path, parts, bad, length))
        return found

    def _is_to_be_made(self, record: Record, file: File, length: int | None) -> bool:
        """By the compaction: beside a source that is still to be seen, ours would show its records twice."""
        made = next((made for made in record.made if made.name == file.name), None)
        # a copy is shown at once; what is there of one is no half of it
        if made is None or length == made.size or (record.copy and length is not None):
            return False
        names = {status.name for status in self._store.list(f"{self._store.root}/{record.spot.directory}")}
        hidden = {layout.replaced_name(record.number, source.name) for source in made.sources}
        return hidden <= names or any(source.name in names for source in made.sources)


def _decided(store: Store, wanted: Wanted, topic_id: str) -> list[Part]:
    """Wanted parts of all entries that are retained."""
    parts = []
    for pid in commit.chains(store, wanted.topic, topic_id):
        if wanted.partitions and pid.partition not in wanted.partitions:
            continue
        for status in store.list(f"{store.root}/{layout.chain_directory(pid)}"):
            seq = layout.parse_entry_name(status.name)
            if seq is not None:
                try:
                    entry = commit.read_entry(store, pid, seq).entry
                except Missing:
                    continue  # retention took it just now
                parts += [part for part in entry.parts if wanted.has(part)]
    return parts


def _hour(
    store: Store,
    wanted: Wanted,
    topic_id: str,
    hour: int,
    window_ms: int,
    parts: Sequence[Part],
    compacted: Compacted,
) -> tuple[list[Mend], Plan | None]:
    """The files of an hour as they are, and its plan if its marker is to be put (anew)."""
    directory = layout.hour_path(wanted.topic, hour, window_ms)
    there = {status.name: status.length for status in store.list(f"{store.root}/{directory}")}
    marker = next((name for name in (layout.SUCCESS, layout.INCOMPLETE) if name in there), None)
    if marker is None and compacted.under_way(hour, there):
        compacted.skipped.append(directory)
        return [], None
    plan_path = layout.plan_path(wanted.topic, topic_id, hour, window_ms)
    said = _read_plan(store, plan_path if marker is None else f"{directory}/{marker}")
    if said is None:
        return [mend for part in parts for mend in _alone(store, wanted.topic, topic_id, window_ms, part)], None
    if said.topic_id != topic_id:
        return [], None  # of a topic of that name that is not in Kafka any more
    plan = amend.apply_to_plan(said, compacted.amended)
    found = []
    for file in plan.files:
        if not any(wanted.has(part) for part in file.parts):
            continue
        for path, held in _pieces(directory, file, there, merged=marker is not None):
            bad, length = bad_parts(store, path, held)
            if not (bad and len(held) == 1 and _in_tmp(store, held[0])):
                found.append(Mend(wanted.topic, topic_id, window_ms, path, tuple(held), bad, length, plan))
    left = plan.reveal != plans.OPERATOR and (marker is None or plan != said)
    return found, plan if left else None


def _read_plan(store: Store, path: str) -> Plan | None:
    try:
        return plans.decode(store.read(f"{store.root}/{path}"))
    except Missing:
        return None


def _pieces(directory: str, file: File, there: dict[str, int], *, merged: bool) -> Iterable[tuple[str, Sequence[Part]]]:
    """The files that have to be there now, and the parts that each holds."""
    parts = file.parts
    if merged or file.name in there:
        yield f"{directory}/{file.name}", parts
        return
    first, size = there.get(parts[0].name), 0
    done = 1
    for count, part in enumerate(parts, 1):
        size += part.size
        if first == size:
            done = count
    yield parts[0].path, parts[:done]
    for part in parts[done:]:
        yield part.path, [part]


def _alone(store: Store, topic: str, topic_id: str, window_ms: int, part: Part) -> list[Mend]:
    """A part under its own name; a late one that was appended to its hour may show already."""
    directory, name = part.path.rsplit("/", 1)
    paths = [part.path]
    if part.kind is not Kind.HOUR and name.startswith("_"):
        paths.append(f"{directory}/{name[1:]}")
    looks = {path: bad_parts(store, path, [part]) for path in paths}
    whole = [path for path, (bad, _) in looks.items() if not bad]
    if not whole and _in_tmp(store, part):
        return []
    shown = [path for path, (_, length) in looks.items() if length is not None]
    path = (whole or shown or paths)[0]
    return [Mend(topic, topic_id, window_ms, path, (part,), *looks[path])]


def _in_tmp(store: Store, part: Part) -> bool:
    """Decided, and still to be published: that is for the owner, or reconcile --repair."""
    return store.stat(f"{store.root}/{part.path}") is None and not bad_parts(store, part.tmp, [part])[0]


def bad_parts(store: Store, path: str, parts: Sequence[Part]) -> tuple[tuple[int, ...], int | None]:
    """Places of the parts that this file does not hold as they were decided, and its length (None: not there)."""
    everything = tuple(range(len(parts)))
    status = store.stat(f"{store.root}/{path}")
    if status is None or status.is_dir:
        return everything, None
    bad, at = [], 0
    try:
        for i, part in enumerate(parts):
            if digest_of(store, f"{store.root}/{path}", at, part.size) != part.sha256:
                bad.append(i)
            at += part.size
    except Missing:
        return everything, None
    except StoreError:
        # such as a block of which no replica is left: the file cannot be read, and another one is made
        return everything, status.length
    # bytes behind the last part: its own are right, and the file is not
    return (tuple(bad) if status.length == at else tuple(bad) or (len(parts) - 1,)), status.length


def digest_of(store: Store, path: str, offset: int, size: int) -> str:
    digest = hashlib.sha256()
    while size > 0:
        data = store.read(path, offset, min(size, 8 << 20))
        if not data:
            break
        digest.update(data)
        offset, size = offset + len(data), size - len(data)
    return digest.hexdigest()
