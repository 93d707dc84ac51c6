"""``run_split`` of a replay: one stretch of a partition into a tree of its own, by the daemon's own steps.

S1 claim, S2 spool, S3 upload, S4 decide, S5 publish, over a bounded range; nothing is committed to Kafka.
What is written derives from the split and the chain alone: a part's name is its partition and first offset,
an entry's its number, and both are put only where nothing is. So a retry goes on at C, a second run finds the
chain at the end of the range, and of two processes at the same split one is fenced and then waits for the other.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from logflume import commit
from logflume.backfill.lines import limited, within
from logflume.backfill.model import Job, Manifest, Split
from logflume.commit import Decision, Owner
from logflume.core import layout, ledger
from logflume.core.ledger import Blind, Head
from logflume.core.router import OpenPart, Round, Router
from logflume.daemon import spooldir
from logflume.daemon.questions import Questions
from logflume.daemon.slot import now_ms, rules_of
from logflume.errors import Fenced, LogflumeError, Stopped
from logflume.kafka.ranges import RangeReader
from logflume.kafka.topics import Topics
from logflume.log import get
from logflume.model import Batch, Kind
from logflume.records import RecordReader, pieces_of
from logflume.spool.encoders import encoder
from logflume.spool.spool import Spool, SpoolFile
from logflume.store import open_store
from logflume.store.base import Store

log = get(__name__)

POLL_RECORDS = 20_000
#: uploads of one entry at once: closing a file on HDFS takes long
UPLOADS = 8
#: tries of a decision, and seconds before the second one, doubled each time
TRIES, FIRST_PAUSE_S = 6, 0.5
#: seconds without a new entry after which whoever fenced us is taken for dead
PATIENCE_S = 60.0
LOOK_EVERY_S = 1.0

#: called now and then with the offsets done since the last call; with 0 it is only a sign of life
Tell = Callable[[int], None]


def open_root(job: Job) -> Store:
    """The store of the job's root. The web address belongs to the configured root's cluster."""
    output = job.config.output
    same = job.root.split("/")[2] == output.root.split("/")[2]
    return open_store(
        job.root,
        namenode_http=output.namenode_http if same else None,
        user=output.user,
        options=output.options,
        timeout_s=job.config.daemon.call_deadline_ms / 2000,
        threads=job.config.daemon.store_threads,
    )


def run_split(job: Job, split: Split, tell: Tell) -> Manifest:
    """Bring the chain of a split's partition to the end of the range. Raises LogflumeError."""
    store = open_root(job)
    try:
        while True:
            try:
                return _Life(job, split, store, tell).run()
            except Fenced as fenced:
                log.warning("another process is at this split: waiting for it", split=str(split.pid), error=str(fenced))
                _wait(store, split, tell)
    finally:
        store.close()


def at_end(head: Head | None, split: Split) -> bool:
    """Whether the chain has all of the range: past its end, and the span's last hour closed."""
    if head is None or head.state.committed < split.end:
        return False
    return head.state.committed >= split.limit or _closed(head.state.frontier, split)


def _closed(frontier: int | None, split: Split) -> bool:
    return split.span is not None and frontier is not None and frontier >= split.span.until


def _wait(store: Store, split: Split, tell: Tell) -> None:
    """Until whoever has the chain now is through, or shows no sign of life; we have to show one ourselves meanwhile."""
    seen, since = -1, time.monotonic()
    while time.monotonic() - since < PATIENCE_S:
        tell(0)
        head = commit.read_head(store, split.pid)
        if head is None or at_end(head, split):
            return
        if head.entry.seq != seen:
            seen, since = head.entry.seq, time.monotonic()
        time.sleep(LOOK_EVERY_S)


def claim(store: Store, split: Split, owner: Owner, window_ms: int) -> Head:
    """S1 in a replay's tree. Raises Stopped where the chain is not of this split."""
    head = commit.read_head(store, split.pid)
    if head is None:
        return commit.append(store, _genesis(split, owner, window_ms))
    if head.state.start != split.start or head.state.window_ms != window_ms or head.state.committed > split.limit:
        raise Stopped(
            f"{split.pid}: the ledger below {store.url} begins at offset {head.state.start} and is at "
            f"{head.state.committed}, and this range is {split.start} to {split.end}",
            hint="give every replay a root of its own",
        )
    commit.publish(store, head.entry)
    if at_end(head, split):
        return head
    return commit.append(store, ledger.claim(head, owner=owner.name, at=owner.clock(), config=owner.config))


def _genesis(split: Split, owner: Owner, window_ms: int) -> ledger.Entry:
    entry = ledger.genesis(
        split.pid, window_ms=window_ms, start=split.start, owner=owner.name, at=owner.clock(), config=owner.config
    )
    state = entry.state
    if split.span is not None:
        state = replace(state, first_hour=split.span.since)
    if split.whole_from is not None and split.start > 0:
        why = f"the replay starts at offset {split.start}"
        state = replace(state, blind=(Blind(None, split.whole_from, split.start, why),))
    return replace(entry, state=state, note=f"backfill {split.start} to {split.end}")


@dataclass(slots=True)
class _Done:
    parts: int = 0
    records: int = 0
    bytes: int = 0


class _Life:
    """From one claim to the end of the range, or to an error that ends this attempt."""

    def __init__(self, job: Job, split: Split, store: Store, tell: Tell) -> None:
        self._job, self._split, self._store, self._tell = job, split, store, tell
        self._settings = settings = job.settings
        self._rules = rules_of(settings)
        self._reader = RecordReader(settings)
        self._encode = encoder(settings.compression)
        self._owner = Owner(f"backfill:{job.name}:{os.uname().nodename}:{os.getpid()}", now_ms, settings.hash)
        self._told = split.start
        self._done = _Done()

    def run(self) -> Manifest:
        split = self._split
        head = commit.read_head(self._store, split.pid)
        already = at_end(head, split)
        head = claim(self._store, split, self._owner, self._settings.window_ms)
        if not already and not at_end(head, split):
            spool = Path(self._job.spool)
            spooldir.sweep(spool)
            hold = spooldir.make(spool, split.pid.partition)
            try:
                with ThreadPoolExecutor(2) as cores, ThreadPoolExecutor(UPLOADS) as uploads:
                    head = self._read(head, hold.path / "parts", cores, uploads)
            finally:
                shutil.rmtree(hold.path, ignore_errors=True)
                hold.release()
        self._say(split.end)
        done = self._done
        return Manifest(
            split.pid.partition, split.start, split.end, head.entry.seq, done.parts, done.records, done.bytes, already
        )

    def _say(self, position: int) -> None:
        self._tell(position - self._told)
        self._told = position

    # -- S2 ---------------------------------------------------------------------------------------

    def _read(self, head: Head, folder: Path, cores: ThreadPoolExecutor, uploads: ThreadPoolExecutor) -> Head:
        split, daemon = self._split, self._job.config.daemon
        spool = Spool(folder, cores, buffer_bytes=daemon.buffer_bytes, limit_bytes=daemon.spool_bytes)
        topics = Topics(self._job.config.kafka.options)
        questions = Questions(topics)
        router = Router(self._rules, head.state)
        settings = self._job.config.kafka.options

        def decide(*, everything: bool) -> Head:
            # a re-created topic would be read on as if it were the old one (K10)
            questions.confirm(split.pid.topic, split.pid.topic_id, time.monotonic())
            return self._decide(head, router, spool, uploads, everything=everything)

        with RangeReader(settings, split.pid.topic, split.pid.partition, head.state.committed, split.limit) as reader:
            self._say(min(reader.position, split.end))
            while not (reader.done or (router.position >= split.end and _closed(router.frontier, split))):
                batch = reader.poll(POLL_RECORDS)
                if batch is not None:
                    self._take(batch, router, spool)
                while spool.crowded:
                    time.sleep(0.01)
                for _, error in spool.broken():
                    raise error
                if router.due(time.monotonic()) or spool.full:
                    head = decide(everything=spool.full)
                self._say(min(reader.position, split.end))
            router.caught_up(reader.position)
        while not at_end(head, split) or router.open or router.closed:
            head = decide(everything=True)
        return head

    def _take(self, batch: Batch, router: Router, spool: Spool) -> None:
        rows, lines = self._reader.read(batch)
        now, span = now_ms(), self._split.span
        keeps = router.route(limited(rows, span, self._rules, now), now=now, mono=time.monotonic())
        parts = {part.serial: part for part in router.open.values()}
        for keep in keeps:
            if span is None or span.has(parts[keep.part].hour):
                pieces, count, size = pieces_of(batch, lines, keep)
                spool.write(self, keep.part, self._encode, pieces, count, size)

    # -- S3 to S5 ---------------------------------------------------------------------------------

    def _decide(
        self, head: Head, router: Router, spool: Spool, uploads: ThreadPoolExecutor, *, everything: bool
    ) -> Head:
        cut = router.cut(time.monotonic(), seq=head.entry.seq + 1, everything=everything)
        round_ = within(cut, self._split.span)
        # the next round's state follows from this one
        router.state = round_.state
        closing = {part.serial: spool.close(self, part.serial) for part in round_.parts}
        files = _files(closing)
        decision = Decision(head, round_, self._names(round_), files)
        head = self._insist(decision, uploads)
        for part in round_.parts:
            spool.remove(self, part.serial)
        self._done.parts += len(round_.parts)
        self._done.records += sum(file.count for file in files.values())
        self._done.bytes += sum(file.size for file in files.values())
        return head

    def _insist(self, decision: Decision, uploads: ThreadPoolExecutor) -> Head:
        """S3 to S5; what may work later is tried again, each step where it was."""
        pause = FIRST_PAUSE_S
        for left in reversed(range(TRIES)):
            try:
                self._upload(decision, uploads)
                return commit.decide(self._store, decision, self._owner)
            except LogflumeError as error:
                if not error.retry or isinstance(error, Fenced) or not left:
                    raise
                log.warning("a decision is tried again", split=str(self._split.pid), error=str(error))
                time.sleep(pause)
                pause *= 2
        raise AssertionError

    def _upload(self, decision: Decision, uploads: ThreadPoolExecutor) -> None:
        pid = self._split.pid

        def one(part: OpenPart) -> None:
            file = decision.files[part.serial]
            decision.uploaded[part.serial] = commit.upload(self._store, pid, file, part.first)

        running = [uploads.submit(one, part) for part in decision.round.parts if part.serial not in decision.uploaded]
        for future in running:
            future.exception()  # all of them end before one is raised: none may upload behind our back
        for future in running:
            future.result()

    def _names(self, round_: Round) -> dict[int, str]:
        settings, first_hour = self._settings, round_.state.first_hour
        extension = layout.extension(settings.format, settings.compression)
        quarantine = layout.extension("json", settings.compression)
        return {
            part.serial: layout.part_path(
                self._split.pid,
                part.kind,
                part.hour,
                part.first,
                settings.window_ms,
                quarantine if part.kind is Kind.QUARANTINE else extension,
                early=settings.reveal == "early",
                append=settings.late == "append" and first_hour is not None and part.hour >= first_hour,
            )
            for part in round_.parts
        }


def _files(closing: dict[int, Future[SpoolFile]]) -> dict[int, SpoolFile]:
    return {serial: future.result() for serial, future in closing.items()}
