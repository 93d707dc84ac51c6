"""Files that nobody needs any more: uploads, plans of marked hours, spools of workers that are gone.

An upload in flight is no orphan, however old: its owner may be asleep, and decide when it wakes. It is dead
for certain once an entry was appended *after* the upload had ended, since its owner can only append to the
entry that was the newest before. Both times are the server's own, and a grace period is on top.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from logflume.compact import record as records
from logflume.core import layout
from logflume.errors import Missing
from logflume.finish import run
from logflume.model import PartitionId
from logflume.reconcile.chain import Chain, Decided
from logflume.reconcile.findings import Finding, What
from logflume.reconcile.walk import TopicWalk
from logflume.store.base import Store

_DEAD = "nobody can decide it any more"


def left_uploads(store: Store, chain: Chain, needed: set[str], older_than_ms: int) -> list[Finding]:
    """One call for each partition, and one more where there are old uploads. ``needed``: tmp names of decided
    parts that are not in their place yet.
    """
    pid = chain.pid
    directory = layout.tmp_path(pid, "")[:-1]
    old = [
        status
        for status in store.list(f"{store.root}/{directory}")
        if status.modified_ms < older_than_ms and f"{directory}/{status.name}" not in needed
    ]
    if not old or chain.head is None:
        return []
    newest = store.stat(f"{store.root}/{layout.entry_path(pid, chain.head.entry.seq)}")
    if newest is None:
        return []
    return [
        _left(What.TMP_LEFT, pid, f"{directory}/{status.name}", f"{status.length} bytes; {_DEAD}")
        for status in old
        if status.modified_ms < newest.modified_ms
    ]


def _left(what: What, pid: PartitionId, path: str, detail: str) -> Finding:
    return Finding(what, pid.topic, path, detail, pid.topic_id, pid.partition)


def left_of_finishing(store: Store, walk: TopicWalk, older_than_ms: int) -> list[Finding]:
    """Two calls for each topic: copies and plans that a finisher which died has left.

    A finisher that is only slow starts anew when its copy is gone, and so does a compaction: what it has copied stays
    once its record is there. What a repair has uploaded stays: it may be the only
    copy of parts that are not in Kafka any more, of a file that this run has not read. The next repair removes it.
    """
    found = []
    top = layout.topic_directory(walk.topic, walk.topic_id)
    for status in store.list(f"{store.root}/{top}/tmp"):
        kept = status.name.startswith(layout.REPAIRED)
        if status.modified_ms < older_than_ms and not kept and not _waits(store, walk, status.name):
            detail = f"{status.length} bytes, left by a finisher or a compaction"
            found.append(Finding(What.TMP_LEFT, walk.topic, f"{top}/tmp/{status.name}", detail, walk.topic_id))
    for status in store.list(f"{store.root}/{top}/plans"):
        hour = layout.parse_plan_name(status.name.replace(".final.json", ".json"))
        if hour is None or status.modified_ms >= older_than_ms:
            continue
        directory = layout.hour_path(walk.topic, hour, walk.window_ms)
        if run.marked(store, f"{store.root}/{directory}"):
            name = layout.hour_name(hour, walk.window_ms)
            path = f"{top}/plans/{status.name}"
            found.append(Finding(What.PLAN_LEFT, walk.topic, path, "its hour is marked", walk.topic_id, hour=name))
    return found


def _waits(store: Store, walk: TopicWalk, name: str) -> bool:
    """Whether it is a copy that the record of a compaction names; one call where it is a copy."""
    path = layout.record_of_copy(walk.topic, walk.topic_id, name)
    try:
        record = None if path is None else records.decode(store.read(f"{store.root}/{path}"))
    except Missing:
        return False
    return record is not None and any(made.tmp.endswith(f"/{name}") for made in record.made)


def needed_uploads(decided: Iterable[Decided]) -> set[str]:
    """Parts of hours and trees that are not settled: their tmp may be the only copy."""
    return {one.part.tmp for one in decided}


def left_spools(spools: Iterable[Path], settled_ms: int) -> list[Finding]:
    """Those in which nothing has changed since ``settled_ms``: a daemon removes those of its dead workers itself."""
    found = []
    for path in spools:
        with suppress(FileNotFoundError):  # removed just now
            if path.stat().st_mtime_ns // 1_000_000 <= settled_ms:
                found.append(Finding(What.SPOOL_LEFT, "", str(path), "its worker is gone"))
    return found
