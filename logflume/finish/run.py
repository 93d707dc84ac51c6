"""Carrying a plan out: S7a to S7d. Every function may be repeated, and run by several processes at once."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from itertools import accumulate

from logflume.core import layout
from logflume.core.ledger import Part, State
from logflume.errors import CannotConcat, Exists, Missing, Stopped, StoreError, Unreachable
from logflume.finish import plan as plans
from logflume.finish.plan import File, Plan
from logflume.log import get
from logflume.model import Kind, PartitionId
from logflume.store.base import FileStatus, Store

log = get(__name__)

#: sources in one concat: some hundreds keep the request line below the server's 64 KiB
CONCAT_SOURCES = 300
#: how often a merge looks again without any progress before it gives up for this time
LOOKS = 5


def finish(store: Store, wanted: Plan, *, progress: Callable[[str], None] = lambda _: None) -> Plan | None:
    """S7 for one hour; returns the plan carried out, None when the hour had been marked before.

    ``progress`` is called with the name of each step that was done, and of merging after each file and each copied
    chunk, since a large hour that has to be copied takes minutes.
    Raises Stopped where files contradict the plan, store errors after which the same call goes on.
    """
    directory = f"{store.root}/{wanted.directory}"
    before = marked(store, directory)
    plan = None if before else put_plan(store, wanted)
    # Looked at again: another finisher may have marked the hour and removed its plan, before ours was put or
    # before we read it.
    if before or marked(store, directory):
        tidy(store, wanted)
        return None
    revealed = plan is not None and plan.reveal == plans.OPERATOR
    if revealed:
        plan = put_plan(store, plans.by_parts(wanted), after_reveal=True)
    if plan is None:
        raise StoreError(f"the plan of {wanted.directory} is gone, and the hour is not marked")
    progress("plan")
    publish_left(store, plan)
    progress("publish")
    for file in plan.files:
        merge_and_reveal(store, plan, file, progress=progress)
        progress("merge")
    sweep(store, plan)
    progress("sweep")
    mark(store, plan)
    progress("mark")
    tidy(store, plan, revealed=revealed)
    progress("tidy")
    return plan


def tidy(store: Store, plan: Plan, *, revealed: bool = False) -> None:
    """What is left to do once an hour is marked. Also for an hour that another one has marked: it may have
    died, or lost a reply, before this.
    """
    names = {status.name for status in reveal_appended(store, plan.directory)}
    if revealed or layout.INCOMPLETE in names:
        store.delete(_plan_path(store, plan, after_reveal=True))
    incomplete = f"{store.root}/{plan.directory}/{layout.INCOMPLETE}"
    if {layout.SUCCESS, layout.INCOMPLETE} <= names and by_operator(store, incomplete):
        # what was missing has come
        store.delete(incomplete)
    store.delete(_plan_path(store, plan))


def marked(store: Store, directory: str) -> bool:
    """Whether the hour is finished. The ``_INCOMPLETE`` of an operator's reveal does not say that."""
    if store.stat(f"{directory}/{layout.SUCCESS}") is not None:
        return True
    incomplete = f"{directory}/{layout.INCOMPLETE}"
    return store.stat(incomplete) is not None and not by_operator(store, incomplete)


def by_operator(store: Store, marker: str) -> bool:
    """Whether this marker is there, and is from ``logflume reveal``."""
    try:
        return plans.is_operators(store.read(marker))
    except Missing:
        return False


def _plan_path(store: Store, plan: Plan, *, after_reveal: bool = False) -> str:
    path = layout.plan_path(plan.topic, plan.topic_id, plan.hour, plan.window_ms, after_reveal=after_reveal)
    return f"{store.root}/{path}"


def _tmp(store: Store, plan: Plan) -> str:
    return f"{store.root}/{layout.topic_directory(plan.topic, plan.topic_id)}/tmp/{uuid.uuid4().hex}"


def put_plan(store: Store, wanted: Plan, *, after_reveal: bool = False) -> Plan | None:
    """S7a: the plan that holds for this hour, ours or that of whoever was first; None where that was removed
    meanwhile. ``after_reveal``: the hour's own plan is an operator's, so this one has a place beside it.
    """
    path = _plan_path(store, wanted, after_reveal=after_reveal)
    data = plans.encode(wanted)
    try:
        if store.put_if_absent(path, data, _tmp(store, wanted)):
            return wanted
    except (StoreError, Unreachable):
        if store.stat(path) is None:
            raise
    try:
        return plans.decode(store.read(path))
    except Missing:
        return None


def publish_left(store: Store, plan: Plan) -> None:
    """Parts that are decided but still in tmp: their owner died, or is slower than we are."""
    there = {status.name for status in store.list(f"{store.root}/{plan.directory}")}
    revealed = {part.path for file in plan.files if file.name in there for part in file.parts}
    for file in plan.files:
        for part in file.parts:
            if part.name in there or part.path in revealed:
                continue
            try:
                store.publish(f"{store.root}/{part.tmp}", f"{store.root}/{part.path}")
            except (Exists, Missing):
                # published by its owner meanwhile, or merged already: the lengths below tell
                continue


def merge_and_reveal(store: Store, plan: Plan, file: File, *, progress: Callable[[str], None] = lambda _: None) -> None:
    """S7b and S7c for one file; ``progress`` is called with each chunk that has to be copied."""
    directory = f"{store.root}/{plan.directory}"
    final = f"{directory}/{file.name}"
    first = f"{store.root}/{file.parts[0].path}"
    if final == first:
        # its part was shown as it was decided
        _expect(store, final, file.size)
        return
    if len(file.parts) > 1 and not store.can_concat:
        copy_and_reveal(store, plan, file, progress=progress)
        return
    try:
        there = merge(store, first, file.parts)
    except CannotConcat as error:
        log.info("parts are copied, since concat is refused", path=final, error=str(error))
        copy_and_reveal(store, plan, file, progress=progress)
        return
    if there:
        reveal(store, first, final, file.size)
    else:
        _expect(store, final, file.size)


def copy_and_reveal(store: Store, plan: Plan, file: File, *, progress: Callable[[str], None] = lambda _: None) -> None:
    """S7b without concat, also from the middle of a merge: the first part has then swallowed some that follow it.

    Others may be at the same file, by concat (what was in its way is gone) or by copying. A copy of the right length
    has the right bytes: a concat that comes between takes parts away in the transaction in which the first one grows,
    so a copy that has the grown one fails for want of those parts.
    """
    first, final = f"{store.root}/{file.parts[0].path}", f"{store.root}/{plan.directory}/{file.name}"
    done = merged(store, first, file.parts)
    # after the look at the first part, which is removed when the revealed file is there
    if _has(store, final, file.size):
        return
    if done is None:
        raise Missing(f"join into {final}: {first} is not there")
    tmp = _tmp(store, plan)
    sources = [first, *(f"{store.root}/{part.path}" for part in file.parts[done:])]
    length = store.join(sources, tmp, progress=lambda: progress("copy"))
    if length != file.size:
        raise StoreError(f"joining {file.name} gave {length} bytes instead of {file.size}")
    if store.stat(first) is None:
        # Another one showed it while we copied. The hour may even be marked and compacted by now and the name be free
        # again: ours would show every record twice.
        store.delete(tmp)
        if not _has(store, final, file.size):
            raise StoreError(f"{first} vanished while it was copied")
        return
    try:
        store.publish(tmp, final)
    except Exists:
        store.delete(tmp)
        _expect(store, final, file.size)
    except Missing:
        # our own call whose reply was lost
        _expect(store, final, file.size)


def merged(store: Store, first: str, parts: Sequence[Part]) -> int | None:
    """How many parts the first one holds, itself among them; None when it is gone, that is, revealed.

    Its length says how far an earlier attempt came, ours or another's: concat is one transaction, so it is always the
    sum of some leading parts.
    """
    status = store.stat(first)
    if status is None:
        return None
    ends = list(accumulate(part.size for part in parts))
    if status.length not in ends:
        raise Stopped(
            f"{first} has {status.length} bytes, which no part of its plan explains",
            hint="someone else wrote it; run 'logflume reconcile'",
        )
    return ends.index(status.length) + 1


def merge(store: Store, first: str, parts: Sequence[Part]) -> bool:
    """S7b: append all parts to the first one; False when the first is gone, that is, revealed.

    Raises CannotConcat when the store refuses it, maybe after some parts were appended.
    """
    idle, before = 0, -1
    while True:
        done = merged(store, first, parts)
        if done is None:
            return False
        if done == len(parts):
            return True
        idle, before = (0, done) if done > before else (idle + 1, before)
        if idle == LOOKS:
            raise Stopped(
                f"{first} cannot be merged: it stays at {done} of {len(parts)} parts, the next ones are missing",
                hint="run 'logflume reconcile': it names the missing part",
            )
        rest = [f"{store.root}/{part.path}" for part in parts[done : done + CONCAT_SOURCES]]
        try:
            store.concat(first, rest)
        except Missing:
            # another finisher did it just now, or a part is really gone: the length tells
            continue


def reveal(store: Store, hidden: str, final: str, size: int) -> None:
    """S7c: the visible name, without overwriting; whoever was first, the file must have the planned length."""
    try:
        store.publish(hidden, final)
    except (Exists, Missing):
        # done by another finisher, or by our own call whose reply was lost
        _expect(store, final, size)


def _has(store: Store, path: str, size: int) -> bool:
    status = store.stat(path)
    return status is not None and not status.is_dir and status.length == size


def _expect(store: Store, path: str, size: int) -> None:
    status = store.stat(path)
    if status is None or status.is_dir or status.length != size:
        found = "is missing" if status is None else f"has {status.length} bytes"
        raise Stopped(
            f"{path} {found}, and {size} bytes were decided for it",
            hint="run 'logflume reconcile': it says what is missing and how to get it back",
        )


def sweep(store: Store, plan: Plan) -> None:
    """Remove what copying leaves: parts that the revealed files hold already. After concat there are none, unless it
    was refused: whoever comes after a finisher that died cannot know that, so this always looks.
    """
    shown = {file.name for file in plan.files}
    named = {part.name: part for file in plan.files for part in file.parts}
    left = {name: part for name, part in named.items() if name not in shown}
    if not left:
        return
    if not store.can_concat:
        # A local publisher that died between link and unlink left the part in tmp as well, and whoever claims
        # its partition would publish it again. On HDFS, where concat may be refused, a rename is one transaction.
        for part in left.values():
            store.delete(f"{store.root}/{part.tmp}")
    # First parts before all others: a merge that finds one takes what follows it for still to be appended, so it must
    # not find one whose followers were removed here.
    firsts = {file.parts[0].name for file in plan.files}
    found = [status for status in store.list(f"{store.root}/{plan.directory}") if status.name in left]
    for status in sorted(found, key=lambda status: status.name not in firsts):
        store.delete(status.path)


def mark(store: Store, plan: Plan) -> None:
    """S7d: the marker, whose bytes are the plan's."""
    path = f"{store.root}/{plan.directory}/{plan.marker}"
    if plan.incomplete and plan.reveal != plans.OPERATOR and by_operator(store, path):
        # a moment without a marker: whoever waits for one waits
        store.delete(path)
    try:
        store.put_if_absent(path, plans.encode(plan), _tmp(store, plan))
    except (StoreError, Unreachable):
        if store.stat(path) is None:
            raise


def reveal_appended(store: Store, directory: str) -> list[FileStatus]:
    """Late parts that the policy ``late = "append"`` adds show only beside a marker. Returns what was there."""
    found = store.list(f"{store.root}/{directory}")
    for status in found:
        name = layout.parse_part_name(status.name)
        if name is not None and name.hidden and name.appended:
            reveal(store, status.path, f"{store.root}/{directory}/{status.name[1:]}", status.length)
    return found


def reveal_appended_part(store: Store, pid: PartitionId, part: Part, state: State) -> None:
    """For one late part just published: show it if its hour is finished; else the finisher will."""
    window_ms = state.window_ms
    directory = layout.hour_path(pid.topic, part.hour, window_ms)
    if part.kind is not Kind.LATE or not part.path.startswith(f"{directory}/"):
        return
    # the marker may have gone since, with all of an old day
    finished = state.finished_until is not None and part.hour + window_ms <= state.finished_until
    if finished or marked(store, f"{store.root}/{directory}"):
        reveal_appended(store, directory)
