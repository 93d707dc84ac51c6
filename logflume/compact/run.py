"""``logflume compact``: which directories, and one after the other what ``carry`` does."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from logflume.backfill import amend
from logflume.compact import record as records
from logflume.compact.carry import carry_out, refuses_concat, remove_copies, with_copies
from logflume.compact.decided import parts_of
from logflume.compact.plan import Wish, make_record
from logflume.compact.record import Place, Record, Spot
from logflume.core import layout
from logflume.core.ledger import Part
from logflume.errors import LogflumeError
from logflume.finish import plan as plans
from logflume.finish.plan import File, Plan
from logflume.log import get
from logflume.model import DAY_MS
from logflume.store.base import FileStatus, Store
from logflume.trees import hour_directories

log = get(__name__)

#: directories looked at, and chains read, at once
THREADS = 16


@dataclass(frozen=True, slots=True)
class Job:
    """``places`` of hours in [since, until). ``grace_ms``: how long replaced files are kept."""

    topic: str
    topic_id: str
    window_ms: int
    wish: Wish
    places: tuple[Place, ...] = (Place.LATE, Place.QUARANTINE)
    since_ms: int | None = None
    until_ms: int | None = None
    grace_ms: int = DAY_MS
    dry_run: bool = False


@dataclass(slots=True)
class Outcome:
    """What became of one directory. ``state``: compacted, planned (a dry run), resumed (an earlier run had died),
    cleaned (only replaced files were removed), failed, or unchanged. ``unknown``: files left alone, since no
    retained entry names them, or only the newest of its chain, whose files a new owner would still publish.
    """

    spot: Spot
    state: str = "unchanged"
    before: int = 0
    after: int = 0
    bytes: int = 0
    copied: bool = False
    removed: int = 0
    unknown: list[str] = field(default_factory=list)
    error: LogflumeError | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """``files`` by path, of the ledger; ``amended``: the check sums that a repair has changed."""

    files: dict[str, File]
    amended: dict[str, Part]

    def as_they_are(self, files: Sequence[File]) -> list[File]:
        return [File(file.name, tuple(amend.apply(file.parts, self.amended))) for file in files]


def compact(store: Store, job: Job, *, now_ms: int | None = None) -> list[Outcome]:
    """Every directory of the job that there was something to say of. An error of one does not stop the others."""
    now = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    outcomes: list[Outcome] = []
    with ThreadPoolExecutor(THREADS, thread_name_prefix="compact") as pool:
        amended = amend.read(store, job.topic, job.topic_id)
        for place in job.places:
            compacted = records.hours(store, job.topic, job.topic_id, place)
            spots = [Spot(job.topic, job.topic_id, place, hour, job.window_ms) for hour in _hours(store, job, place)]
            known = _known(store, job, place, spots, pool, amended)
            for spot in spots:
                one = Outcome(spot)
                try:
                    _one(store, job, one, Known(known, amended), spot.hour in compacted, now)
                except LogflumeError as error:
                    log.warning("not compacted", path=spot.directory, error=str(error))
                    one.state, one.error = "failed", error
                if one.state != "unchanged":
                    outcomes.append(one)
    return outcomes


def _hours(store: Store, job: Job, place: Place) -> Iterator[int]:
    """Hours with a directory in the tree, in order."""
    for _, hour in hour_directories(store, layout.tree(place.kind, job.topic), job.window_ms):
        if (job.since_ms is None or hour >= job.since_ms) and (job.until_ms is None or hour < job.until_ms):
            yield hour


def _known(
    store: Store, job: Job, place: Place, spots: Sequence[Spot], pool: Executor, amended: dict[str, Part]
) -> dict[str, File]:
    """Path → what the ledger, or a repair since, says of it, for directories with something to merge."""
    if place is Place.HOUR:
        return {}
    paths = []
    for spot, names in zip(spots, pool.map(lambda spot: _names(store, spot), spots), strict=True):
        if len(names) > 1 or job.wish.rewrite or (job.wish.files or 1) > 1:
            paths += [f"{spot.directory}/{name}" for name in names]
    found = parts_of(store, job.topic, job.topic_id, paths, pool) if paths else {}
    return {path: File(path.rsplit("/", 1)[1], tuple(amend.apply([part], amended))) for path, part in found.items()}


def _names(store: Store, spot: Spot) -> list[str]:
    """Visible files of this place, in its directory."""
    return [one.name for one in store.list(f"{store.root}/{spot.directory}") if _belongs(spot, one)]


def _belongs(spot: Spot, status: FileStatus) -> bool:
    if status.is_dir or status.name.startswith("_"):
        return False
    part, made = layout.parse_part_name(status.name), layout.parse_compacted_name(status.name)
    appended = (part is not None and part.appended) or (made is not None and made.appended)
    return (part is not None or made is not None) and appended is (spot.place is Place.APPENDED)


# -- one directory --------------------------------------------------------------------------------


def _one(store: Store, job: Job, one: Outcome, known: Known, has_record: bool, now: int) -> None:
    spot = one.spot
    last, resumed = records.newest(store, spot) if has_record else None, None
    if last is not None and not job.dry_run:
        if carry_out(store, last):
            one.state, resumed = "resumed", last.number
            last = records.newest(store, spot) or last
        one.removed = _clean(store, job, last, now, resumed)
        if one.removed and one.state == "unchanged":
            one.state = "cleaned"
    files, manifest = _sources(store, one, last, known)
    if spot.place is Place.HOUR and manifest is None:
        return  # not finished, or not for good
    number = 0 if last is None else last.number + 1
    wanted = make_record(spot, number, now, files, job.wish, manifest=manifest, can_concat=store.can_concat)
    if wanted is None or (job.wish.rewrite and last is not None and last.copy and _same(last, wanted)):
        return
    one.before = len(files)
    one.after = one.before + len(wanted.made) - len({source.name for made in wanted.made for source in made.sources})
    one.bytes = sum(made.size for made in wanted.made)
    one.copied = wanted.copy
    if job.dry_run:
        one.state = "planned"
        return
    if not wanted.copy and refuses_concat(store, wanted):
        wanted = replace(wanted, copy=True)
        one.copied = True
    if last is not None:
        # in a local store what was shown may still be there: its rename is two steps
        remove_copies(store, last)
    carry_out(store, _decide(store, wanted))
    one.state = "compacted"
    log.info("compacted", path=spot.directory, before=one.before, after=one.after, bytes=one.bytes)
    one.removed += _clean(store, job, wanted, now, resumed)


def _same(last: Record, wanted: Record) -> bool:
    """Whether a rewrite would only copy what the last one copied."""
    return {made.name for made in last.made} == {source.name for made in wanted.made for source in made.sources} and (
        all(len(made.sources) == 1 for made in wanted.made)
    )


def _decide(store: Store, wanted: Record) -> Record:
    """Steps 1 and 2: ours, or the record of another run that was quicker."""
    try:
        ours = with_copies(store, wanted) if wanted.copy else wanted
    except LogflumeError:
        theirs = records.read(store, wanted.spot, wanted.number)
        if theirs is None:
            raise
        return theirs  # it has taken the files away that we copied
    held = records.put(store, ours)
    if held != ours:
        remove_copies(store, ours)
    return held


def _sources(store: Store, one: Outcome, last: Record | None, known: Known) -> tuple[list[File], Plan | None]:
    """Files that may be merged with each other, and the manifest of an hour."""
    spot = one.spot
    there = {status.name: status for status in store.list(f"{store.root}/{spot.directory}")}
    if spot.place is Place.HOUR:
        manifest = _manifest(store, spot, there)
        return (list(manifest.files), manifest) if manifest is not None else ([], None)
    made = {file.name: file for file in known.as_they_are(last.files)} if last is not None else {}
    files = []
    for name in sorted(there):
        if not _belongs(spot, there[name]):
            continue
        file = made.get(name) or known.files.get(f"{spot.directory}/{name}")
        if file is not None and file.size == there[name].length:
            files.append(file)
        elif known.files:
            one.unknown.append(name)
    return files, None


def _manifest(store: Store, spot: Spot, there: dict[str, FileStatus]) -> Plan | None:
    """Of a finished hour whose files are all there; None for any other, and for one that an operator revealed."""
    for name in (layout.SUCCESS, layout.INCOMPLETE):
        if name in there:
            found = plans.decode(store.read(f"{store.root}/{spot.directory}/{name}"))
            whole = all(file.name in there and there[file.name].length == file.size for file in found.files)
            same = found.topic_id == spot.topic_id and found.reveal != plans.OPERATOR
            return found if whole and same else None
    return None


def _clean(store: Store, job: Job, last: Record, now: int, resumed: int | None) -> int:
    """Step 6: remove what was replaced by this compaction or an earlier one, once the grace period is over. What this
    run has replaced just now stays, however old the record is.
    """
    removed = 0
    for status in store.list(f"{store.root}/{last.spot.directory}"):
        number = layout.parse_replaced_name(status.name)
        if number is None or number > last.number or number == resumed:
            continue
        by = last if number == last.number else records.read(store, last.spot, number)
        own = by is not None and any(
            status.name == layout.replaced_name(number, source.name) for made in by.made for source in made.sources
        )
        # another id of the topic may have files there, which are not ours to judge
        if own and by is not None and now - by.at >= job.grace_ms:
            removed += store.delete(status.path)
    return removed
