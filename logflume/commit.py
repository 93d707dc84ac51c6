"""The numbered steps of the commit protocol, one function each; all of them may be repeated.

S1 claim, S3 upload, S4 decide, S5 publish. (S2, the spool, and S6, the commit to Kafka, belong to the
worker; S7, finishing, has a package of its own.) They run in pool threads and touch only the store.

Why it holds: one NameNode transaction, the rename without overwrite in S4, decides who extends the chain.
Whoever wins has read the entry before, so its parts hold only offsets that were left.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from logflume.core import codec, layout, ledger
from logflume.core.ledger import Entry, Head, Part
from logflume.core.router import TRUNCATED_HINT, Round
from logflume.errors import Exists, Fenced, LedgerError, Missing, Stopped, StoreError, Unreachable
from logflume.finish import run
from logflume.model import Kind, PartitionId
from logflume.spool.spool import SpoolFile
from logflume.store.base import Store


@dataclass(frozen=True, slots=True)
class LogFacts:
    """What the broker says now: a partition's first and end offset, the group's committed offset or None, and
    how many partitions the topic has.
    """

    start: int
    end: int
    committed: int | None
    partitions: int


@dataclass(frozen=True, slots=True)
class TopicSeen:
    """A topic when it was first seen; ``window_ms`` is None in a file of before it was kept."""

    partitions: int
    window_ms: int | None


@dataclass(frozen=True, slots=True)
class Owner:
    """Who writes: a name unique to this process and claim, the clock in ms, and the configuration's hash."""

    name: str
    clock: Callable[[], int]
    config: str


def read_head(store: Store, pid: PartitionId) -> Head | None:
    """The newest entry of a chain, None where there is none. Raises LedgerError for an unreadable one."""
    directory = f"{store.root}/{layout.chain_directory(pid)}"
    # The listing is in the order of the names, and of a month's hundreds the last one is wanted.
    numbers = (layout.parse_entry_name(status.name) for status in reversed(store.list(directory)))
    newest = next((number for number in numbers if number is not None), None)
    if newest is None:
        return None
    # Owners that came in the meantime have written later ones: go on to the end.
    head = read_entry(store, pid, newest)
    while (after := next_entry(store, head)) is not None:
        head = after
    return head


def read_entry(store: Store, pid: PartitionId, seq: int) -> Head:
    """One entry. Raises Missing, LedgerError."""
    return codec.decode(store.read(f"{store.root}/{layout.entry_path(pid, seq)}"), pid=pid, seq=seq)


def next_entry(store: Store, head: Head, *, known: bool = False) -> Head | None:
    """The entry after ``head``, None where there is none yet; ``known``: there is one, a request less to ask. Raises
    LedgerError if it does not link.
    """
    pid, seq = head.entry.pid, head.entry.seq + 1
    if not known and store.stat(f"{store.root}/{layout.entry_path(pid, seq)}") is None:
        return None
    after = read_entry(store, pid, seq)
    if after.entry.prev != head.sha256:
        raise LedgerError(f"entry {seq} of {pid} does not link to the entry before")
    return after


def trim(store: Store, head: Head, older_than_ms: int, *, progress: Callable[[], None] = lambda: None) -> int:
    """Remove entries last written before ``older_than_ms`` that no restart and no finisher needs; returns how many.
    ``progress`` is called after each: with a shorter retention they may be thousands.

    Every entry carries the state, so a chain may lose its beginning. Age is the server's own modification
    time: it only decides how much history is kept, never what is true.
    """
    needed = min([head.entry.seq, *head.state.unfinished.values()])
    removed = 0
    for status in store.list(f"{store.root}/{layout.chain_directory(head.entry.pid)}"):
        seq = layout.parse_entry_name(status.name)
        if seq is None:
            continue
        if seq >= needed or status.modified_ms >= older_than_ms:
            # Never one without all before it: see _check_linked.
            break
        removed += store.delete(status.path)
        progress()
    return removed


# -- S1 -------------------------------------------------------------------------------------------


def claim(
    store: Store,
    pid: PartitionId,
    owner: Owner,
    *,
    window_ms: int,
    ask: Callable[[], LogFacts],
    latest: bool,
    firsts: dict[tuple[str, str], TopicSeen] | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Head:
    """S1: finish what the last owner left, then fence it with an entry of our own.

    ``latest``: a partition that was there when its topic was first seen begins at the end of the log.
    ``firsts``: what ``first_seen`` said to earlier claims, by topic and id; it never changes, and is added to.
    ``progress`` is called with each part of the last entry that is published.

    Raises Stopped when the log and the chain contradict each other (K7, K8, K9, C4), before anything of it is
    written; Fenced when another owner is claiming at the same time; store errors with unknown outcome
    (claiming again is harmless).
    """

    def look() -> tuple[Head | None, LogFacts, list[str]]:
        head = read_head(store, pid)
        # Asked only now: with an older answer an owner that still writes may have decided beyond "the end".
        facts = ask()
        check_log(pid, head, facts, window_ms)
        # they matter to a chain that has closed nothing yet
        earlier = earlier_ids(store, pid) if head is None or head.state.frontier is None else []
        if head is None and earlier:
            check_accepted(store, pid, earlier)
        return head, facts, earlier

    try:
        head, facts, earlier = look()
    except Stopped:
        # No person is called for what a NameNode said that hung, was replaced meanwhile, and has not noticed: until it
        # has to write it answers with what was (seen: "the group committed an offset beyond the ledger's").
        store.write_probe(f"{store.root}/{layout.LEDGER_ROOT}")
        head, facts, earlier = look()
    first = (firsts or {}).get((pid.topic, pid.topic_id))
    if first is None:
        first = first_seen(store, pid.topic, pid.topic_id, TopicSeen(facts.partitions, window_ms))
        if firsts is not None:
            firsts[pid.topic, pid.topic_id] = first
    if first.window_ms is not None:
        check_window(pid, window_ms, first.window_ms)
    added = pid.partition >= first.partitions or bool(earlier)
    if head is None:
        start = facts.end if latest and not added else facts.start
        entry = ledger.genesis(
            pid, window_ms=window_ms, start=start, owner=owner.name, at=owner.clock(), config=owner.config
        )
    else:
        publish(store, head.entry, progress=progress)
        entry = ledger.claim(head, owner=owner.name, at=owner.clock(), config=owner.config)
    head = append(store, entry)
    return _join(store, head, owner, earlier) if added and head.state.frontier is None else head


def first_partitions(store: Store, topic: str, topic_id: str) -> int:
    """How many partitions a topic had when it was first seen: those are waited for from the first hour on,
    later ones join. Raises Missing where it was not seen yet.
    """
    return first_seen(store, topic, topic_id, None).partitions


def first_seen(store: Store, topic: str, topic_id: str, now: TopicSeen | None) -> TopicSeen:
    """A topic when it was first seen. Written once, as it is ``now``; with None, Missing if it was not yet."""
    path = f"{store.root}/{layout.topic_path(topic, topic_id)}"
    if now is not None and store.stat(path) is None:
        seen = {"topic": topic, "topic_id": topic_id, "partitions": now.partitions, "window_ms": now.window_ms}
        data = json.dumps(seen).encode() + b"\n"
        store.put_if_absent(
            path, data, f"{store.root}/{layout.topic_directory(topic, topic_id)}/{uuid.uuid4().hex}.tmp"
        )
    try:
        body = json.loads(store.read(path))
        return TopicSeen(int(body["partitions"]), body.get("window_ms"))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LedgerError(f"{path} cannot be read: {error}") from error


def earlier_ids(store: Store, pid: PartitionId) -> list[str]:
    """Ids under which the same topic name was ingested into this root before (K10)."""
    return [topic_id for topic_id in ids_of(store, pid.topic) if topic_id != pid.topic_id]


def ids_of(store: Store, topic: str) -> list[str]:
    """Ids under which a topic has a directory in the ledger."""
    return [status.name for status in store.list(f"{store.root}/{layout.LEDGER_ROOT}/{topic}") if status.is_dir]


def check_accepted(store: Store, pid: PartitionId, earlier: list[str]) -> None:
    """Raises Stopped until an operator has said that the new topic may go on where the old one was."""
    if store.stat(f"{store.root}/{layout.accepted_path(pid.topic, pid.topic_id)}") is None:
        raise Stopped(
            f"topic {pid.topic} was deleted and re-created: this root has the ledger of id "
            f"{', '.join(earlier)}, and its id is now {pid.topic_id}",
            hint="records of the old topic that were not decided are gone with it; to go on with the new "
            f"one: logflume reconcile --accept-topic {pid.topic} --reason TEXT -c CONFIG",
        )


def _join(store: Store, head: Head, owner: Owner, earlier: list[str]) -> Head:
    """Close what any other partition has closed, *after* our chain exists: a finisher that did not see our
    chain has looked at the others' entries before, so what it finishes is among these hours.

    Of a topic's ``earlier`` ids every hour that has a part is closed as well: ids never share an hour.
    """
    pid = head.entry.pid
    until = []
    for topic_id in [pid.topic_id, *earlier]:
        for other in chains(store, pid.topic, topic_id):
            newest = read_head(store, other) if other != pid else None
            if newest is None:
                continue
            if newest.state.frontier is not None:
                until.append(newest.state.frontier)
            if topic_id != pid.topic_id and newest.state.unfinished:
                until.append(max(newest.state.unfinished) + newest.state.window_ms)
    return append(store, ledger.join(head, until=max(until), at=owner.clock())) if until else head


def chains(store: Store, topic: str, topic_id: str) -> list[PartitionId]:
    """The partitions of a topic that have a chain, in order."""
    found = store.list(f"{store.root}/{layout.topic_directory(topic, topic_id)}")
    numbers = [layout.parse_chain_directory(status.name) for status in found if status.is_dir]
    return [PartitionId(topic, topic_id, number) for number in sorted(n for n in numbers if n is not None)]


def check_log(pid: PartitionId, head: Head | None, facts: LogFacts, window_ms: int) -> None:
    """Raises Stopped unless reading can go on exactly where the chain ends."""
    if head is None:
        if facts.committed is not None and facts.committed > facts.start:
            raise Stopped(
                f"{pid}: the group committed offset {facts.committed}, but there is no ledger below this root",
                hint="the output was moved, or the group.id belongs to another program: set the right "
                "output.root, or another group.id to begin anew",
            )
        return
    committed = head.state.committed
    check_window(pid, window_ms, head.state.window_ms)
    if committed < facts.start:
        raise Stopped(
            f"{pid}: offsets {committed} to {facts.start - 1} are lost, the log begins at {facts.start} (retention)",
            hint=f"to go on without them: logflume reconcile --accept-gap {pid}:{facts.start} --reason TEXT -c CONFIG",
        )
    if head.state.reached > facts.end:
        raise Stopped(
            f"{pid}: the ledger is at offset {head.state.reached}, but the log ends at {facts.end} (truncated?)",
            hint=TRUNCATED_HINT,
        )
    if facts.committed is not None and facts.committed > committed:
        raise Stopped(
            f"{pid}: the group committed offset {facts.committed}, beyond the ledger's {committed}",
            hint="something else commits with this group.id, or the ledger was restored from a copy; "
            "reset the group's offset to the ledger's, or use another group.id",
        )


def check_window(pid: PartitionId, window_ms: int, known_ms: int) -> None:
    """Raises Stopped: hours of two lengths have no common end at which they would be complete."""
    if known_ms != window_ms:
        raise Stopped(
            f"{pid}: window is {window_ms} ms, and the ledger has {known_ms} ms",
            hint="the window of a topic with a ledger cannot change: set it back, or use another output.root",
        )


def check_ledgers_window(store: Store, topic: str, topic_id: str, window_ms: int) -> None:
    """Raises Stopped where the topic has a ledger with another window: for jobs that write beside it."""
    for pid in chains(store, topic, topic_id):
        head = read_head(store, pid)
        if head is not None:
            check_window(pid, window_ms, head.state.window_ms)
            return  # a topic has one


def append(store: Store, entry: Entry) -> Head:
    """Put an entry at its sequence number, or find out who did.

    Returns the head that is there now if it is ours: also when an earlier attempt, believed lost,
    came through after all. Raises Fenced if it is another's; if nobody's, the store error (retry).
    """
    data = codec.encode(entry)
    path = f"{store.root}/{layout.entry_path(entry.pid, entry.seq)}"
    tmp = f"{store.root}/{layout.tmp_path(entry.pid, f'entry-{uuid.uuid4().hex}')}"
    try:
        if store.put_if_absent(path, data, tmp):
            _check_linked(store, entry)
            return Head(entry, hashlib.sha256(data).hexdigest())
    except (StoreError, Unreachable):
        # The reply may be lost although the rename was done (N3): only reading tells.
        if store.stat(path) is None:
            raise
    found = read_entry(store, entry.pid, entry.seq)
    if (found.entry.owner, found.entry.epoch) == (entry.owner, entry.epoch):
        _check_linked(store, entry)
        return found
    raise Fenced(f"{entry.pid}: entry {entry.seq} was written by {found.entry.owner}, epoch {found.entry.epoch}")


def _check_linked(store: Store, entry: Entry) -> None:
    """Raises Fenced for an entry at a number that was taken, long ago, and given free by ``trim``.

    Put-if-absent alone would let an owner in that slept for longer than the ledger is kept. Entries go oldest
    first, so where the one it follows is still there, the number was never taken. It is known by its content: a
    second sleeper may have written the number before, with other words.
    """
    if entry.seq > 0:
        try:
            before = store.read(f"{store.root}/{layout.entry_path(entry.pid, entry.seq - 1)}")
        except Missing:
            linked = False
        else:
            linked = hashlib.sha256(before).hexdigest() == entry.prev
    else:
        names = [status.name for status in store.list(f"{store.root}/{layout.chain_directory(entry.pid)}")]
        linked = all(layout.parse_entry_name(name) in (None, 0) for name in names)
    if not linked:
        raise Fenced(f"{entry.pid}: entry {entry.seq} is of a time that the ledger has forgotten")


# -- S3 to S5 -------------------------------------------------------------------------------------


@dataclass(slots=True)
class Decision:
    """A round on its way through S3, S4 and S5. Kept over retries, so that each step goes on where it was:
    uploaded parts stay uploaded, and an entry that was sent once is never sent with other words.
    """

    head: Head
    round: Round
    names: dict[int, str]
    files: dict[int, SpoolFile]
    uploaded: dict[int, str] = field(default_factory=dict)
    entry: Entry | None = None


def decide(store: Store, decision: Decision, owner: Owner, *, progress: Callable[[str], None] = lambda _: None) -> Head:
    """S3 to S5 for one round. Raises Fenced, Stopped, or a store error after which the same call goes on.

    ``progress`` is called with the name of each step that was done, and after each part and each chunk of one: a log
    that is read for the first time gives hundreds in one round, and a part may be gigabytes.
    """
    for part in decision.round.parts:
        if part.serial not in decision.uploaded:
            decision.uploaded[part.serial] = upload(
                store,
                decision.head.entry.pid,
                decision.files[part.serial],
                part.first,
                progress=lambda: progress("upload"),
            )
            progress("upload")
    if decision.entry is None:
        decision.entry = entry_of(decision, owner)
        ledger.check_follows(decision.head, decision.entry)
    head = append(store, decision.entry)
    progress("append")
    publish(store, head.entry, progress=progress)
    return head


def upload(
    store: Store, pid: PartitionId, file: SpoolFile, first: int, *, progress: Callable[[], None] = lambda: None
) -> str:
    """S3: under a name never used before; after any failure that name is given up (H10).

    Raises Stopped when the spool's file is not as long as what was written to it.
    """
    tmp = layout.tmp_path(pid, f"{first:019d}-{uuid.uuid4().hex}")
    length = store.upload(file.path, f"{store.root}/{tmp}", progress=progress)
    if length != file.size:
        raise Stopped(
            f"{pid}: {file.path} has {length} bytes, and {file.size} were written to it",
            hint="something else changed the spool; the records are read again by themselves",
        )
    return tmp


def entry_of(decision: Decision, owner: Owner) -> Entry:
    """S4: the words of the entry, from the round and its uploaded files."""
    before, round_ = decision.head.entry, decision.round
    parts = []
    for part in round_.parts:
        file = decision.files[part.serial]
        if file.count != len(part.offsets):
            raise LedgerError(
                f"{before.pid}: part {part.serial} has {file.count} lines for {len(part.offsets)} offsets"
            )
        parts.append(
            Part(
                kind=part.kind,
                hour=part.hour,
                path=decision.names[part.serial],
                tmp=decision.uploaded[part.serial],
                size=file.size,
                raw=file.raw,
                count=file.count,
                sha256=file.sha256,
                offsets=part.offsets,
                min_time=part.min_time,
                max_time=part.max_time,
                reasons=part.reasons,
            )
        )
    return Entry(
        pid=before.pid,
        seq=before.seq + 1,
        prev=decision.head.sha256,
        what="decide",
        owner=owner.name,
        epoch=before.epoch,
        at=owner.clock(),
        config=owner.config,
        state=round_.state,
        parts=tuple(parts),
        closed=round_.closed,
        gaps=round_.gaps,
        dropped=round_.dropped,
    )


def publish(store: Store, entry: Entry, *, progress: Callable[[str], None] = lambda _: None) -> None:
    """S5: every part of a decided entry to its final name; ``progress`` is called after each.

    Raises Stopped where the name is taken by another file, or the part is gone without having been
    merged by a finisher.
    """
    for part in entry.parts:
        final = f"{store.root}/{part.path}"
        try:
            store.publish(f"{store.root}/{part.tmp}", final)
        except Exists:
            status = store.stat(final)
            whole = status is not None and status.length == part.size and not status.is_dir
            if not whole and not _taken_further(store, entry, part):
                raise Stopped(
                    f"{part.path} is there, but it is not what entry {entry.seq} of {entry.pid} decided",
                    hint="someone else wrote it; move it away, logflume goes on by itself",
                ) from None
        except Missing:
            if not _taken_further(store, entry, part):
                raise Stopped(
                    f"{part.path} was decided by entry {entry.seq} of {entry.pid}, and is neither there nor in tmp",
                    hint="someone removed it; 'logflume reconcile' says what is missing",
                ) from None

        run.reveal_appended_part(store, entry.pid, part, entry.state)
        progress("publish")


def _taken_further(store: Store, entry: Entry, part: Part) -> bool:
    """Whether a finisher has taken a published part on: its hour has a plan or a marker, or it was revealed."""
    pid, window_ms = entry.pid, entry.state.window_ms
    if part.kind is Kind.HOUR:
        plan = layout.plan_path(pid.topic, pid.topic_id, part.hour, window_ms)
        hour = layout.hour_path(pid.topic, part.hour, window_ms)
        return store.stat(f"{store.root}/{plan}") is not None or run.marked(store, f"{store.root}/{hour}")
    directory, name = part.path.rsplit("/", 1)
    revealed = store.stat(f"{store.root}/{directory}/{name.removeprefix('_')}")
    return name.startswith("_") and revealed is not None and revealed.length == part.size
