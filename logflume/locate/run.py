"""Looking an offset up: some 30 stats or one list of its chain, some 16 reads of entries, and two or three
calls for the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from logflume import commit
from logflume.config import TopicConfig
from logflume.core import layout
from logflume.core.ledger import Closing, Entry, Head, Part
from logflume.errors import LedgerError, Missing, UsageError
from logflume.finish import plan as plans
from logflume.finish.plan import Plan
from logflume.locate import compacted
from logflume.locate.plan import (
    Answer,
    Fate,
    Place,
    Shown,
    fate_in,
    first_where,
    is_decided,
    place_in,
    undecided,
    why_late,
)
from logflume.model import Kind, PartitionId
from logflume.reconcile.deep import DECODE_ERRORS, decoder
from logflume.store.base import Store
from logflume.trees import hour_directories

#: hours looked at around a boundary when the entry is gone, at most
HOURS = 200


@dataclass(slots=True)
class Chain:
    """One chain, read where it is needed."""

    store: Store
    pid: PartitionId
    numbers: Sequence[int]
    head: Head

    def entry(self, seq: int) -> Entry:
        return self.head.entry if seq == self.head.entry.seq else commit.read_entry(self.store, self.pid, seq).entry


def open_chain(store: Store, pid: PartitionId) -> Chain:
    """Every entry by its number. Raises UsageError where there is no such chain."""
    found = store.list(f"{store.root}/{layout.chain_directory(pid)}")
    numbers = sorted(seq for seq in (layout.parse_entry_name(status.name) for status in found) if seq is not None)
    if not numbers:
        raise UsageError(f"{pid} has no ledger below {store.url}")
    return Chain(store, pid, numbers, commit.read_entry(store, pid, numbers[-1]))


def _open_whole_chain(store: Store, pid: PartitionId) -> Chain | None:
    """Without a list, which takes long for a year: where entry 0 is there still, the newest is found by halving."""

    def there(seq: int) -> bool:
        return store.stat(f"{store.root}/{layout.entry_path(pid, seq)}") is not None

    if not there(0):
        return None
    beyond = 1
    while there(beyond):
        beyond *= 2
    newest = first_where(range(beyond // 2, beyond), lambda seq: not there(seq + 1))
    last = beyond - 1 if newest is None else newest
    return Chain(store, pid, range(last + 1), commit.read_entry(store, pid, last))


def topic_ids(store: Store, topic: str) -> list[str]:
    """Ids of a topic that have a chain, the one written last at the end. Raises UsageError where there is none."""
    dated = []
    for name in commit.ids_of(store, topic):
        heads = [commit.read_head(store, pid) for pid in commit.chains(store, topic, name)[:1]]
        dated += [(head.entry.at, name) for head in heads if head is not None]
    if not dated:
        raise UsageError(f"topic {topic!r} has no ledger below {store.url}", hint="'logflume status' names the topics")
    return [name for _, name in sorted(dated)]


def window_of(store: Store, topic: str, topic_id: str) -> int:
    """Length of the topic's hours in ms, as its newest entries have it."""
    heads = (commit.read_head(store, pid) for pid in commit.chains(store, topic, topic_id))
    return next(head.state.window_ms for head in heads if head is not None)


# -- an offset ------------------------------------------------------------------------------------


def locate_offset(store: Store, pid: PartitionId, offset: int, config: TopicConfig | None = None) -> Answer:
    """What became of an offset. Raises UsageError without a ledger, LedgerError for a damaged entry."""
    chain = _open_whole_chain(store, pid)
    if chain is None or not is_decided(chain.head.state, offset):
        # trimmed, or not decided: then it has to be the newest entry for certain
        chain = open_chain(store, pid)
    state = chain.head.state
    answer = Answer(pid.topic, pid.topic_id, pid.partition, offset, Fate.UNDECIDED, "")
    if offset < state.start:
        answer.fate, answer.why = Fate.BEFORE, f"the ledger begins at offset {state.start}"
        return answer
    if not is_decided(state, offset):
        answer.why = undecided(state, offset, chain.head.entry.owner)
        return answer
    seq = first_where(chain.numbers, lambda number: is_decided(chain.entry(number).state, offset))
    entry = chain.entry(chain.head.entry.seq if seq is None else seq)
    found = fate_in(entry, offset)
    if found is None:
        return _from_manifests(chain, answer, config)
    answer.fate, part = found
    answer.entry, answer.owner, answer.decided_at_ms = entry.seq, entry.owner, entry.at
    if part is None:
        answer.why = _why_no_part(entry, answer.fate)
        return answer
    answer.hour = layout.hour_name(part.hour, state.window_ms)
    answer.part, answer.records = part.path, part.count
    answer.place = place_of(store, pid, part, state.window_ms)
    answer.why = _why(chain, entry, part, answer)
    return answer


def _why_no_part(entry: Entry, fate: Fate) -> str:
    if fate is Fate.DROPPED:
        return 'late, and the topic says late = "drop"'
    if entry.what == "gap":
        return entry.note
    return "the broker delivers no record at this offset: a transaction marker, aborted, or compacted away"


def _why(chain: Chain, entry: Entry, part: Part, answer: Answer) -> str:
    if part.kind is Kind.LATE:
        return why_late(_closing_of(chain, part.hour + entry.state.window_ms), answer.hour)
    if part.kind is Kind.QUARANTINE:
        reason = next(iter(part.reasons)) if len(part.reasons) == 1 else _reason_of(chain.store, answer, part)
        return f"quarantined: {reason}; the hour is that of its Kafka time"
    return "its event time is in this hour, which was open"


def _closing_of(chain: Chain, end: int) -> Closing | None:
    """How the hour that ends at ``end`` was closed: once closed, closed in every later entry."""

    def closed(number: int) -> bool:
        frontier = chain.entry(number).state.frontier
        return frontier is not None and frontier >= end

    seq = first_where(chain.numbers, closed)
    return None if seq is None else next((one for one in chain.entry(seq).closed if one.covers(end)), None)


def _reason_of(store: Store, answer: Answer, part: Part) -> str:
    """The line itself knows. Files of the quarantine are as large as other parts, so this may take a moment."""
    unknown = f"one of {', '.join(sorted(part.reasons))}"
    if answer.place is None or answer.place.shown is Shown.MISSING:
        return unknown
    wanted = f'"partition":{answer.partition},"offset":{answer.offset},'.encode()
    try:
        line = next((line for line in _lines(store, answer.place.path, part) if wanted in line), None)
    except DECODE_ERRORS:
        return f"{unknown}; its file is damaged"
    return unknown if line is None else str(json.loads(line)["reason"])


def _lines(store: Store, path: str, part: Part) -> Iterator[bytes]:
    decode, rest = decoder(part.path), b""
    for chunk in store.stream(f"{store.root}/{path}"):
        *lines, rest = (rest + decode(chunk)).split(b"\n")
        yield from lines


# -- its file -------------------------------------------------------------------------------------


def place_of(store: Store, pid: PartitionId, part: Part, window_ms: int) -> Place:
    """Where a decided part is now."""
    directory = part.path.rsplit("/", 1)[0]
    marker, manifest = read_manifest(store, directory) if part.kind is not Kind.QUARANTINE else ("", None)
    if part.kind is Kind.HOUR:
        plan = manifest or _read_plan(store, pid, part.hour, window_ms)
        found = place_in(plan, part) if plan is not None else None
        # by a plan, concat may not have come so far yet
        least = 0 if found is None or manifest is not None else found[1] + part.size
        if found is not None and _is_file(store, f"{directory}/{found[0]}", least):
            shown = Shown.HIDDEN if found[0].startswith("_") else Shown.VISIBLE
            return Place(f"{directory}/{found[0]}", shown, found[1], part.size, marker)
    name = part.name
    for path in (part.path, f"{directory}/{name.removeprefix('_')}"):
        if _is_file(store, path):
            shown = Shown.HIDDEN if path.rsplit("/", 1)[1].startswith("_") else Shown.VISIBLE
            return Place(path, shown, 0, part.size, marker)
    made = compacted.file_of(store, pid, part, window_ms)
    if made is not None:
        shown = Shown.HIDDEN if made[0].name.startswith("_") else Shown.VISIBLE
        return Place(f"{directory}/{made[0].name}", shown, made[1], part.size, marker)
    if _is_file(store, part.tmp):
        return Place(part.tmp, Shown.TMP, 0, part.size, marker)
    return Place(part.path, Shown.MISSING, 0, part.size, marker)


def _is_file(store: Store, path: str, least_bytes: int = 0) -> bool:
    status = store.stat(f"{store.root}/{path}")
    return status is not None and not status.is_dir and status.length >= least_bytes


def read_manifest(store: Store, directory: str) -> tuple[str, Plan | None]:
    """The marker of an hour's directory and what it says; ("", None) without one or for a damaged one."""
    for name in (layout.SUCCESS, layout.INCOMPLETE):
        try:
            return name, plans.decode(store.read(f"{store.root}/{directory}/{name}"))
        except Missing:
            continue
        except LedgerError:
            return name, None
    return "", None


def _read_plan(store: Store, pid: PartitionId, hour: int, window_ms: int) -> Plan | None:
    try:
        return plans.decode(store.read(f"{store.root}/{layout.plan_path(pid.topic, pid.topic_id, hour, window_ms)}"))
    except (Missing, LedgerError):
        return None


# -- without its entry ----------------------------------------------------------------------------


def _from_manifests(chain: Chain, answer: Answer, config: TopicConfig | None) -> Answer:
    """Its entry was dropped: each finished hour's manifest has the boundary of every partition, and its parts.

    A record that was in time lies in the hour that is closed first above its offset, or, if it was early, in
    one of those that its lateness and the next reach.
    """
    pid, state = chain.pid, chain.head.state
    answer.fate = Fate.FORGOTTEN
    answer.why = "its entry was dropped after ledger_retention; no hour has it, so it was late, bad, dropped or a gap"
    if state.first_hour is None or state.frontier is None:
        return answer
    window = state.window_ms
    # hours that data retention removed say nothing, and halving would get lost among them
    kept = next(hour_directories(chain.store, layout.tree(Kind.HOUR, pid.topic), window), None)
    begin = max(state.first_hour, kept[1]) if kept is not None else state.frontier
    if begin > state.first_hour:
        answer.why += ", or its hour was removed"
    hours = range(begin, state.frontier, window)
    read = _Manifests(chain.store, pid, window)
    first = first_where(hours, lambda hour: read.boundary(hour, hours[-1]) > answer.offset)
    lateness = config.lateness_ms if config is not None else window
    for hour in hours[hours.index(first) :][: min(HOURS, 3 + lateness // window)] if first is not None else ():
        manifest = read.manifest(hour)
        for file in manifest.files if manifest is not None else ():
            for part in file.parts:
                name = layout.parse_part_name(part.name)
                if name is not None and name.partition == pid.partition and answer.offset in part.offsets:
                    answer.fate = Fate.HOUR
                    answer.hour = layout.hour_name(hour, window)
                    answer.part, answer.records = part.path, part.count
                    answer.place = place_of(chain.store, pid, part, window)
                    answer.why = "by the manifest of its hour; its entry was dropped after ledger_retention"
                    return answer
    return answer


class _Manifests:
    """Manifests of one topic's hours, each read once."""

    def __init__(self, store: Store, pid: PartitionId, window_ms: int) -> None:
        self._store, self._pid, self._window_ms = store, pid, window_ms
        self._read: dict[int, Plan | None] = {}

    def manifest(self, hour: int) -> Plan | None:
        if hour not in self._read:
            directory = layout.hour_path(self._pid.topic, hour, self._window_ms)
            found = read_manifest(self._store, directory)[1]
            self._read[hour] = found if found is not None and found.topic_id == self._pid.topic_id else None
        return self._read[hour]

    def boundary(self, hour: int, last: int) -> int:
        """B of this hour, or of the next one that has a manifest; beyond them all it is above every offset."""
        for at in range(hour, last + 1, self._window_ms)[:HOURS]:
            manifest = self.manifest(at)
            one = manifest.partitions.get(self._pid.partition) if manifest is not None else None
            if one is not None:
                return int(one["boundary"])
        return 1 << 63
