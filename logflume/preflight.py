"""What is looked at before anything starts: every problem at once, each with what to do about it.

The looks run beside each other, in a process of their own: a client that hangs in a call without a bound
is killed with it, and the process that goes on has loaded no client and has no thread of one.
"""

from __future__ import annotations

import os
import re
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from logflume.config import Config, TopicConfig
from logflume.core import layout
from logflume.core.ledger import State
from logflume.core.router import Router
from logflume.daemon import process
from logflume.errors import LogflumeError, Refused, Unreachable
from logflume.model import Kind
from logflume.store import Store, open_store
from logflume.units import show_instant, show_size

if TYPE_CHECKING:
    from logflume.kafka.topics import Topics

#: one question to a server
CALL_S = 10.0
#: all looks together: some calls one after the other, each with its own retries
LOOK_S = 40.0
#: topics of which records are read: a pattern may mean hundreds
SAMPLED_TOPICS = 20
#: by the store's clock: no look lasts as long, so a probe of this age was left by one that was killed
PROBE_LEFT_MS = 120_000
_PROBE = re.compile("_?probe-[0-9a-f]{32}")
#: for the process that looks to start; LOOK_S later it answers in any case
START_S = 20.0


class Level(StrEnum):
    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. ``exit_code`` is an error's; ``sample`` counts records, if any were read."""

    where: str
    level: Level
    text: str
    hint: str = ""
    exit_code: int = 0
    sample: dict[str, Any] | None = None


def failed(where: str, error: LogflumeError) -> Finding:
    return Finding(where, Level.ERROR, str(error), error.hint, error.exit_code)


def exit_code(findings: Iterable[Finding]) -> int:
    """That of the gravest error: the lower, the nearer to who configures. 0 without an error."""
    return min((one.exit_code for one in findings if one.level is Level.ERROR), default=0)


def check(config: Config, *, start: bool) -> list[Finding]:
    """Look at everything the configuration names: before a ``start``, or on a person's behalf, each topic's latest
    records too.

    Bounded in time, and to be called from the main thread.
    """
    return process.apart(LOOK_S + START_S, look, config, start)


def look(config: Config, start: bool) -> list[Finding]:
    """What ``check`` does, in this process; threads of clients that hang are left behind."""
    looks = {
        f"kafka {config.kafka.options['bootstrap.servers']}": lambda at: look_at_kafka(at, config, start=start),
        f"output {config.output.root}": lambda at: look_at_output(at, config),
        f"spool {config.daemon.spool}": lambda at: look_at_spool(at, config),
    }
    answers: SimpleQueue[tuple[str, Finding | BaseException | None]] = SimpleQueue()

    def run(where: str) -> None:
        try:
            for finding in looks[where](where):
                answers.put((where, finding))
        except BaseException as failure:  # a thread would lose it: raised again below
            answers.put((where, failure))
        answers.put((where, None))

    for where in looks:
        threading.Thread(target=run, args=(where,), daemon=True).start()
    deadline = time.monotonic() + LOOK_S
    found: dict[str, list[Finding]] = {where: [] for where in looks}
    open_ = set(looks)
    while open_:
        try:
            where, answer = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except Empty:
            break
        if isinstance(answer, BaseException):
            raise answer
        if answer is None:
            open_.discard(where)
        else:
            found[where].append(answer)
    for where in open_:
        found[where].append(failed(where, Unreachable(f"no answer within {LOOK_S:g} s")))
    return [one for findings in found.values() for one in findings]


# -- Kafka ----------------------------------------------------------------------------------------


def look_at_kafka(where: str, config: Config, *, start: bool) -> Iterator[Finding]:
    from logflume.kafka import native  # noqa: PLC0415  # not loaded by the parent
    from logflume.kafka.topics import Topics  # noqa: PLC0415

    try:
        why_not = native.MISSING and f"; native is not there: {native.MISSING}"
        yield Finding("daemon.reader", Level.OK, native.choose(config.daemon.reader) + why_not)
    except LogflumeError as error:
        yield failed("daemon.reader", error)
    topics = Topics(config.kafka.options, timeout_s=CALL_S)
    try:
        known = topics.list_topics(["^.*"])
    except LogflumeError as error:
        yield failed(where, error)
        return
    yield Finding(where, Level.OK, f"answers, {len(known)} topics")
    samples = 0 if start else SAMPLED_TOPICS
    there = [(topic, [name for name in known if config.topic_for(name) is topic]) for topic in config.topics]
    for topic, names in there:
        if topic.name is not None and not names:
            missing = Refused("does not exist", hint="create it, or correct the name in the configuration")
            absent = failed(f"topic {topic.name}", missing)
            # somebody deleted one topic: a restart that fails for ever would stop all others
            others = start and any(names for _, names in there)
            yield replace(absent, level=Level.WARNING, exit_code=0) if others else absent
        elif not names:
            hint = "records are read as soon as one is created; is the pattern what you mean?"
            yield Finding(f"pattern {topic.pattern}", Level.WARNING, "matches no topic yet", hint)
        for name in names:
            yield _look_at_topic(config, topics, topic, name, sample=samples > 0)
            samples -= 1


def _look_at_topic(config: Config, topics: Topics, topic: TopicConfig, name: str, *, sample: bool) -> Finding:
    where = f"topic {name}"
    try:
        if topic.timestamp.source == "append" and not topics.has_append_time(name):
            raise Refused(
                'has timestamp = "append" here, but its message.timestamp.type in Kafka is not LogAppendTime',
                hint=f'set it there (kafka-configs.sh --alter --topic {name} …), or use "create"',
            )
        if sample:
            return _sample(config, topics, topic, name)
    except LogflumeError as error:
        return failed(where, error)
    return Finding(where, Level.OK, "exists")


def _sample(config: Config, topics: Topics, topic: TopicConfig, name: str) -> Finding:
    """What would become of the latest records, by the very code that decides it."""
    from logflume.daemon.slot import rules_of  # noqa: PLC0415  # loads the Kafka client
    from logflume.kafka.sample import latest  # noqa: PLC0415
    from logflume.records import RecordReader  # noqa: PLC0415

    reader, reasons, times = RecordReader(topic), Counter[str](), list[int]()
    records = 0
    for batch in latest(config.kafka.options, topics, name, CALL_S):
        rows, _ = reader.read(batch)
        first = batch.offsets[0]
        router = Router(rules_of(topic), State(topic.window_ms, first, first, first))
        router.route(rows, now=time.time_ns() // 1_000_000, mono=0.0)
        records += len(batch.offsets)
        for part in router.open.values():
            if part.kind is Kind.QUARANTINE:
                reasons.update(part.reasons)
            else:
                times += [part.min_time, part.max_time]
    span = {"oldest": show_instant(min(times)), "newest": show_instant(max(times))} if times else {}
    counts = {"records": records, "quarantined": dict(sorted(reasons.items())), **span}
    return _judged(name, records, reasons, span, counts)


def _judged(name: str, records: int, reasons: Counter[str], span: dict[str, str], counts: dict[str, Any]) -> Finding:
    where = f"topic {name}"
    if records == 0:
        return Finding(where, Level.OK, "exists, and is empty", sample=counts)
    between = f", event times {span['oldest']} to {span['newest']}" if span else ""
    if not reasons:
        return Finding(where, Level.OK, f"latest {records} records are good{between}", sample=counts)
    each = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    text = f"{reasons.total()} of the latest {records} records would go to quarantine: {each}{between}"
    hint = "check 'timestamp' (field and unit) and 'format' of the topic, or what its producers send"
    return Finding(where, Level.WARNING, text, hint, sample=counts)


# -- the store ------------------------------------------------------------------------------------


def look_at_output(where: str, config: Config) -> Iterator[Finding]:
    output = config.output
    web: Store | None = None
    if output.scheme == "hdfs" and output.namenode_http is not None:
        at = f"namenode {output.namenode_http}"
        try:
            web = _open_web(config, output.namenode_http)
            web.stat(web.root)
            yield Finding(at, Level.OK, "answers")
        except LogflumeError as error:
            web = None
            yield failed(at, error)
    try:
        store = open_store(
            output.root, namenode_http=output.namenode_http, user=output.user, options=output.options, timeout_s=CALL_S
        )
        _probe(store, config, web)
        yield Finding(where, Level.OK, "writable, and a rename does not overwrite")
    except LogflumeError as error:
        yield failed(where, error)


def _open_web(config: Config, address: str) -> Store:
    from logflume.store.webhdfs import WebHdfsStore  # noqa: PLC0415  # the client is loaded where it is needed

    return WebHdfsStore(address, config.output.path, url=address, user=config.output.user, timeout_s=CALL_S, threads=1)


def _probe(store: Store, config: Config, web: Store | None) -> None:
    """That the ledger's rename can be relied on, that parts can get from it to where they belong (H20), and
    that the web address is of the same file system.
    """
    ledgers = f"{store.root}/{layout.LEDGER_ROOT}"
    store.rename_probe(ledgers)
    names = [topic.name for topic in config.topics if topic.name is not None]
    trees = [f"{store.root}/{layout.tree(kind, name)}" for name in names for kind in Kind]
    now_ms = 0
    for directory in [store.root, *(tree for tree in trees if store.stat(tree) is not None)]:
        unique = uuid.uuid4().hex
        tmp, final = f"{ledgers}/probe-{unique}", f"{directory}/_probe-{unique}"
        try:
            store.write(tmp, b"probe")
            store.publish(tmp, final)
            if web is not None and web.stat(final) is None:
                raise Refused(
                    f"{config.output.namenode_http} does not see a file that was written to {store.url}",
                    hint="output.namenode_http must be the web address of the same name space as output.root",
                )
            status = store.stat(final)
            now_ms = now_ms if status is None else status.modified_ms
            _remove_left(store, directory, now_ms)
        finally:
            store.delete(tmp)
            store.delete(final)
    _remove_left(store, ledgers, now_ms)


def _remove_left(store: Store, directory: str, now_ms: int) -> None:
    """A probe that was left harms no reader, by its name; but nobody else would remove it. ``now_ms``: the store's."""
    for one in store.list(directory):
        if not one.is_dir and _PROBE.fullmatch(one.name) and one.modified_ms < now_ms - PROBE_LEFT_MS:
            store.delete(one.path)


# -- this host ------------------------------------------------------------------------------------


def look_at_spool(where: str, config: Config) -> Iterator[Finding]:
    spool, wanted = config.daemon.spool, config.daemon.spool_bytes
    try:
        os.makedirs(spool, exist_ok=True)
        with tempfile.TemporaryFile(dir=spool) as file:
            file.write(b"probe")
        at = os.statvfs(spool)
    except OSError as error:
        why = f"cannot be written: {(error.strerror or str(error)).lower()}"
        hint = "make the directory, and its owner the user that logflume runs as"
        yield failed(where, Refused(why, hint=hint))
        return
    free = at.f_bavail * at.f_frsize
    if free < wanted:
        text = f"{free >> 20} MiB are free, and daemon.spool_bytes is {show_size(wanted)}"
        yield Finding(where, Level.WARNING, text, "make room, or lower daemon.spool_bytes")
    else:
        yield Finding(where, Level.OK, f"writable, {free >> 20} MiB are free")
