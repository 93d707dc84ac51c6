"""Carrying out a compaction. Every step may be repeated, and done by several at once.

1. where files are copied: each new file is written aside and read back, part by part (``with_copies``).
2. the record is put (``record.put``); it names the copies. So what a new file becomes is decided once: whoever comes by
   later, however slow, has nothing else to show in its place, also where the file was compacted again meanwhile.
3. in an hour: the new manifest is put as its plan, so that a finisher which comes by does the same as we; then the
   marker is taken away. Whoever waits for it waits.
4. the files. By concat: the first file gets the new name, then the others are appended to it, one transaction for
   some 300 of them. By copying, as files are that are cut: each source is hidden as ``_replaced-…``, then the copy
   is shown.
5. in an hour: the marker with the new manifest, and the plan goes.
6. after the grace period the replaced files are removed, by a later run.

What a job sees that lists the directory, then reads. One that asks for ``_SUCCESS`` first: nothing of this, but for a
job that asked before step 3 and reads after it: the names it has are gone, so it fails, and is right when it is
repeated. Files that were open already can be read to their end. In the late and quarantine trees there is no
marker: while concat is at it, each listing has every record exactly once; while files are copied a listing may
miss those of one new file (of one old file, where it is cut) for the moment of its renames, and never has a record
twice. A job that lists between the
renaming of the first file and the concat, and has read all others before the concat comes, would read them again in the
first: two calls that follow each other at once lie between, unless this process is stopped there.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import replace

from logflume.backfill import amend
from logflume.compact import record as records
from logflume.compact.record import Made, Record
from logflume.core import layout
from logflume.core.ledger import Part
from logflume.errors import Busy, CannotConcat, Exists, LogflumeError, Missing, Stopped, StoreError, Unreachable
from logflume.finish import plan as plans
from logflume.finish import run
from logflume.finish.plan import File, Plan
from logflume.log import get
from logflume.scratch import scratch
from logflume.store.base import Store

log = get(__name__)

#: of a file that is cut, read at once
CHUNK_BYTES = 8 << 20
#: how often a call is tried again that somebody else's call came before
LOOKS = 5
_HINT = "someone else wrote or removed it; run 'logflume reconcile'"


def carry_out(store: Store, record: Record) -> bool:
    """Steps 3 to 5; returns whether anything was left to do. Raises Stopped where the files contradict the record.

    A record after which there is another one was carried out before. Where the other one comes while we are at it, it
    is carried out (again): what it has done to the marker, we may have undone.
    """
    if records.has_next(store, record):
        return False
    try:
        return _carry_out(store, record)
    except LogflumeError:
        newest = records.newest(store, record.spot)
        if newest is None or newest.number <= record.number:
            raise
    return carry_out(store, newest)


def _carry_out(store: Store, record: Record) -> bool:
    directory = f"{store.root}/{record.spot.directory}"
    there = {status.name: status.length for status in store.list(directory)}
    if _is_done(store, record, there):
        if record.manifest is not None:
            # whoever put the marker may have died before this
            store.delete(_plan_path(store, record.manifest))
        return False
    if _cannot_be_made(store, record, there):
        _give_up(store, record, there)
        return True
    manifest = None
    if record.manifest is not None:
        manifest = _take_marker_away(store, record, record.manifest)
    for made in record.made:
        if not record.copy:
            _concat(store, directory, made)
        elif there.get(made.name) != made.size:
            _swap(store, record, made)
    if manifest is not None:
        _mark(store, record, manifest)
    return True


def _is_done(store: Store, record: Record, there: dict[str, int]) -> bool:
    if any(there.get(made.name) != made.size for made in record.made):
        return False
    return record.manifest is None or (record.manifest.marker in there and _has_marker(store, record.manifest))


def _has_marker(store: Store, manifest: Plan) -> bool:
    """Also with other check sums: a repair came after it."""
    try:
        return plans.alike(plans.decode(store.read(_marker_path(store, manifest))), manifest)
    except Missing:
        return False


def _marker_path(store: Store, manifest: Plan) -> str:
    return f"{store.root}/{manifest.directory}/{manifest.marker}"


def _plan_path(store: Store, manifest: Plan) -> str:
    path = layout.plan_path(manifest.topic, manifest.topic_id, manifest.hour, manifest.window_ms)
    return f"{store.root}/{path}"


# -- what is not there any more -------------------------------------------------------------------


def _cannot_be_made(store: Store, record: Record, there: dict[str, int]) -> bool:
    """Whether none of its files is there, nor what any would begin with: the first source, which concat renames, or the
    copy. Somebody who keeps data for a shorter time has removed the directory, and late records have made it anew. What
    is gone does not come back, so nobody carries this one out any more.
    """
    for made in record.made:
        first = made.sources[0].name in there if not record.copy else _is_there(store, made.tmp)
        hidden = any(layout.replaced_name(record.number, source.name) in there for source in made.sources)
        # asked for last: what was there to begin with may have become it just now
        if made.name in there or first or hidden or _is_there(store, f"{record.spot.directory}/{made.name}"):
            return False
    return True


def _is_there(store: Store, path: str) -> bool:
    return bool(path) and store.stat(f"{store.root}/{path}") is not None


def _give_up(store: Store, record: Record, there: dict[str, int]) -> None:
    """By a record after it that makes nothing: what is there has its own name, or that of an earlier compaction."""
    files = [*record.kept, *(record.whole(source) for made in record.made for source in made.sources)]
    kept = {file.name: file for file in files if layout.parse_compacted_name(file.name) and file.name in there}
    left = () if record.manifest is not None else tuple(kept.values())
    log.warning("compaction given up, since its files are gone", path=record.spot.path(record.number))
    records.put(store, Record(record.spot, record.number + 1, record.at, copy=False, made=(), kept=left))


# -- the marker -----------------------------------------------------------------------------------


def _take_marker_away(store: Store, record: Record, wanted: Plan) -> Plan:
    """Step 3; returns the manifest that holds, which has other check sums where a repair is at it, too."""
    # a repair may have changed check sums since the record was put
    manifest = amend.apply_to_plan(wanted, amend.read(store, record.spot.topic, record.spot.topic_id))
    directory = f"{store.root}/{manifest.directory}"
    for _ in range(LOOKS):
        found = run.put_plan(store, manifest)
        if found is not None and plans.alike(found, manifest):
            break
        if found is not None and (_is_earlier(found, record) or run.marked(store, directory)):
            # left by a compaction before this one, or by a finisher that died after it had marked the hour
            store.delete(_plan_path(store, manifest))
    else:
        raise Busy(f"{manifest.directory} is just being finished")
    if not _has_marker(store, found):
        _expect_newest(store, record)
        store.delete(_marker_path(store, found))
    return found


def _is_earlier(plan: Plan, record: Record) -> bool:
    """Whether a plan is that of a compaction before this one."""
    names = [layout.parse_compacted_name(file.name) for file in plan.files]
    numbers = [name.number for name in names if name is not None]
    return bool(numbers) and max(numbers) < record.number


def _expect_newest(store: Store, record: Record) -> None:
    if records.has_next(store, record):
        raise Busy(f"{record.spot.directory} is compacted by another run", hint="it is safe to do nothing")


def _mark(store: Store, record: Record, manifest: Plan) -> None:
    """Step 5. A finisher that had seen the old files may have put the old marker again."""
    for _ in range(LOOKS):
        _expect_newest(store, record)
        run.mark(store, manifest)
        if _has_marker(store, manifest):
            run.tidy(store, manifest)
            return
        _expect_newest(store, record)
        store.delete(_marker_path(store, manifest))
    raise Busy(f"somebody marks {manifest.directory} again and again")


# -- by concat ------------------------------------------------------------------------------------


def refuses_concat(store: Store, wanted: Record) -> bool:
    """Whether the store does not concat these files, such as those of a snapshot. Asked before there is a record: with
    half of it carried out an hour would have no marker for as long as the snapshot is kept.
    """
    directory = f"{store.root}/{wanted.spot.directory}"
    for made in wanted.made:
        first, *others = (f"{directory}/{source.name}" for source in made.sources)
        for path in others:
            try:
                # With one that is not there nothing is changed. Each alone: more might not fit into one request, and
                # the first of two would be carried out.
                store.concat(first, [path, f"{directory}/_none-{uuid.uuid4().hex}"])
            except Missing:
                continue
            except CannotConcat as error:
                log.info("files are copied, since concat is refused", path=f"{directory}/{made.name}", error=str(error))
                return True
    return False


def _concat(store: Store, directory: str, made: Made) -> None:
    target, sources = f"{directory}/{made.name}", [f"{directory}/{source.name}" for source in made.sources]
    if store.stat(target) is None:
        try:
            store.publish(sources[0], target)
        except (Exists, Missing, StoreError, Unreachable):
            # another run was quicker, or a reply was lost: the target tells
            if store.stat(target) is None:
                raise
    ends = [made.sources[0].size]
    for source in made.sources[1:]:
        ends.append(ends[-1] + source.size)
    idle, before = 0, -1
    while True:
        status = store.stat(target)
        if status is None or status.length not in ends:
            found = "is gone" if status is None else f"has {status.length} bytes, which its sources do not explain"
            raise Stopped(f"{target} {found}", hint=_HINT)
        done = ends.index(status.length) + 1
        if done == len(sources):
            return
        idle, before = (0, done) if done > before else (idle + 1, before)
        if idle == LOOKS:
            raise Stopped(f"{target} stays at {status.length} of {ends[-1]} bytes: a source is missing", hint=_HINT)
        try:
            store.concat(target, sources[done : done + run.CONCAT_SOURCES])
        except Missing:
            # done by another run just now, or a source is really gone: the length tells
            continue


# -- by copying -----------------------------------------------------------------------------------


def with_copies(store: Store, wanted: Record) -> Record:
    """Step 1; returns the record that names the copies."""
    amended = amend.read(store, wanted.spot.topic, wanted.spot.topic_id)
    return replace(wanted, made=tuple(replace(made, tmp=_copy(store, wanted, made, amended)) for made in wanted.made))


def remove_copies(store: Store, record: Record) -> None:
    """Of a record that was not put, or that is carried out."""
    for made in record.made:
        if made.tmp:
            store.delete(f"{store.root}/{made.tmp}")


def _copy(store: Store, record: Record, made: Made, amended: dict[str, Part]) -> str:
    """Returns where the copy is."""
    spot = record.spot
    name = layout.copy_name(spot.place, spot.hour, spot.window_ms, record.number, uuid.uuid4().hex)
    tmp = f"{layout.topic_directory(spot.topic, spot.topic_id)}/tmp/{name}"
    path = f"{store.root}/{tmp}"
    sources = [(f"{store.root}/{spot.directory}/{source.name}", source) for source in made.sources]
    if any(record.whole(source) != source for source in made.sources):
        _copy_pieces(store, record, sources, path)
    else:
        length = store.join([source for source, _ in sources], path)
        if length != made.size:
            raise StoreError(f"joining {made.name} gave {length} bytes instead of {made.size}")
    _verify(store, path, amend.apply(made.file.parts, amended))
    return tmp


def _copy_pieces(store: Store, record: Record, sources: Sequence[tuple[str, File]], tmp: str) -> None:
    """By way of the local disk: a store copies whole files only."""
    with scratch("compact") as folder:
        local = folder / "file"
        with local.open("wb") as target:
            for path, source in sources:
                at = record.whole(source).start_of(source.parts[0])
                left = source.size
                while left > 0:
                    data = store.read(path, at, min(left, CHUNK_BYTES))
                    if not data:
                        raise Stopped(f"{path} ends before a part of it", hint=_HINT)
                    target.write(data)
                    at, left = at + len(data), left - len(data)
        store.upload(local, tmp)


def _verify(store: Store, path: str, parts: Sequence[Part]) -> None:
    """The originals are removed one day, so the copy is read back first."""
    chunks, rest = store.stream(path), b""
    for part in parts:
        digest, left = hashlib.sha256(), part.size
        while left > 0:
            rest = rest or next(chunks, b"")
            if not rest:
                break
            digest.update(rest[:left])
            left, rest = left - len(rest[:left]), rest[left:]
        if digest.hexdigest() != part.sha256:
            raise Stopped(f"{part.path} has other bytes in the files to be merged than were decided", hint=_HINT)


def _swap(store: Store, record: Record, made: Made) -> None:
    """Step 4. The copy is looked for first: without it the sources have to stay as they are."""
    directory, copy = f"{store.root}/{record.spot.directory}", f"{store.root}/{made.tmp}"
    final = f"{directory}/{made.name}"
    if (not made.tmp or store.stat(copy) is None) and store.stat(final) is None:
        raise Stopped(f"the copy that was to become {record.spot.directory}/{made.name} is not there", hint=_HINT)
    for source in made.sources:
        hidden = f"{directory}/{layout.replaced_name(record.number, source.name)}"
        try:
            store.publish(f"{directory}/{source.name}", hidden)
        except (Exists, Missing):
            # done by another run
            if store.stat(f"{directory}/{source.name}") is not None:
                raise
            if store.stat(hidden) is None and store.stat(final) is None:
                # a repair has it in hand, and will put it back
                raise Stopped(f"{record.spot.directory}/{source.name} is not there", hint=_HINT) from None
    try:
        store.publish(copy, final)
    except (Exists, Missing):
        status = store.stat(final)
        if status is None or status.length != made.size:
            found = "is not there" if status is None else "is there with another length"
            raise Stopped(f"{record.spot.directory}/{made.name} {found}", hint=_HINT) from None
