"""Looking up a moment, or a file: what an hour looks like, and what a path is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from logflume import commit
from logflume.compact.record import Place, Spot
from logflume.core import layout
from logflume.core.ledger import Part
from logflume.errors import Missing, UsageError
from logflume.finish.plan import File, Plan
from logflume.locate import compacted
from logflume.locate.plan import Answer, Fate
from logflume.locate.run import locate_offset, read_manifest, topic_ids, window_of
from logflume.model import Kind, PartitionId
from logflume.quarantine import reinject
from logflume.store.base import Store

_TREES = {layout.LATE_ROOT: Kind.LATE, layout.QUARANTINE_ROOT: Kind.QUARANTINE}


# -- a moment -------------------------------------------------------------------------------------


def locate_time(
    store: Store, topic: str, topic_id: str, time_ms: int, window_ms: int, partition: int | None
) -> dict[str, Any]:
    """The hour of an event time: its files, late ones too, and which of them may have a record of this very moment.

    A file without parts here is one that only reading it could tell about.
    """
    hour = time_ms - time_ms % window_ms
    directory = layout.hour_path(topic, hour, window_ms)
    marker, manifest = read_manifest(store, directory)
    body: dict[str, Any] = {
        "topic": topic,
        "time_ms": time_ms,
        "hour": layout.hour_name(hour, window_ms),
        "directory": directory,
        "marker": marker,
        "incomplete": [],
        "boundaries": {},
    }
    named = {file.name: file for file in manifest.files} if manifest is not None else {}
    hours = [Spot(topic, topic_id, place, hour, window_ms) for place in (Place.HOUR, Place.APPENDED)]
    late = [Spot(topic, topic_id, Place.LATE, hour, window_ms)]
    plan = f"{store.root}/{layout.plan_path(topic, topic_id, hour, window_ms)}"
    # while an hour is merged, a part of one partition may have swallowed those of others
    merging = manifest is None and partition is not None and store.stat(plan) is not None
    files = _files(store, hours, named, time_ms, None if merging else partition)
    files += _files(store, late, {}, time_ms, partition)
    body["files"] = files
    if manifest is None:
        unfinished = "the hour is not finished: 'logflume status' says what it waits for" if files else "no file yet"
        body["why"] = "its marker cannot be read: run 'logflume reconcile'" if marker else unfinished
        return body
    body["incomplete"] = list(manifest.incomplete)
    body["boundaries"] = {str(n): one["boundary"] for n, one in manifest.partitions.items() if partition in (None, n)}
    body["why"] = "the hour is finished" if not manifest.incomplete else "the hour is finished, and may miss records"
    return body


def _files(
    store: Store, spots: Sequence[Spot], named: Mapping[str, File], time_ms: int, partition: int | None
) -> list[dict[str, Any]]:
    """Of one directory: what the manifest or a compaction tells the times of, and whatever else may have the record."""
    directory = spots[0].directory
    listed = store.list(f"{store.root}/{directory}")
    there = {status.name: status.length for status in listed if not status.is_dir}
    # where the store copies, parts that the manifest's files hold already may be left
    known: dict[str, tuple[Part, ...]] = {part.name: () for file in named.values() for part in file.parts}
    needed: frozenset[str] = frozenset()
    for spot in spots:
        parts, names = compacted.parts_in(store, spot, there)
        known |= parts
        needed |= names
    known |= {name: file.parts for name, file in named.items()}
    found = []
    # one that the manifest names is told also where somebody removed it
    for name in sorted(there.keys() | named.keys()):
        covering = [part for part in known.get(name, ()) if _covers(part, time_ms, partition)]
        if covering or (name not in known and _may_have(name, partition, needed)):
            size = there[name] if name in there else named[name].size
            parts_json = [_part(part) for part in covering]
            path = f"{directory}/{name}"
            found.append({"path": path, "there": name in there, "bytes": size, "parts": parts_json})
    return found


def _may_have(name: str, partition: int | None, needed: frozenset[str]) -> bool:
    """Whether a file that nothing tells the times of is one with records. ``needed``: see ``compacted.parts_in``."""
    part, again = layout.parse_part_name(name), layout.parse_reinjected_name(name)
    if part is not None:
        return partition in (None, part.partition)
    if again is not None:
        return partition in (None, again[0])
    if layout.parse_replaced_name(name) is not None:
        return name in needed
    return layout.parse_finished_name(name) is not None or layout.parse_compacted_name(name) is not None


def _covers(part: Part, time_ms: int, partition: int | None) -> bool:
    return part.min_time <= time_ms <= part.max_time and partition in (None, _partition_of(part))


def _partition_of(part: Part) -> int | None:
    name = layout.parse_part_name(part.name)
    return name.partition if name is not None else None


def _part(part: Part) -> dict[str, Any]:
    return {
        "partition": _partition_of(part),
        "first_offset": part.offsets.first,
        "last_offset": part.offsets.last,
        "records": part.count,
        "min_time_ms": part.min_time,
        "max_time_ms": part.max_time,
    }


# -- a file ---------------------------------------------------------------------------------------


def relative(store: Store, path: str) -> str:
    """A path as the layout has it, from one that a person copied: a URL, an absolute one, or relative already."""
    for prefix in (store.url, store.root):
        if path.startswith(f"{prefix}/"):
            return path[len(prefix) + 1 :]
    if "://" in path or path.startswith("/"):
        raise UsageError(f"{path} is not below the output root {store.url}")
    return path


def locate_file(store: Store, path: str) -> dict[str, Any]:
    """What a file is and who decided it; the keys are always the same. ``parts`` are those that the file is made of,
    ``paths`` those that an entry names. Raises UsageError for a path that cannot be one of ours.
    """
    names = path.split("/")
    status = store.stat(f"{store.root}/{path}")
    there = status if status is not None and not status.is_dir else None
    body: dict[str, Any] = {
        "path": path,
        "there": there is not None,
        "bytes": there.length if there else None,
        "is": "unknown",
        "why": "",
        "tree": None,
        "topic": None,
        "topic_id": None,
        "marker": None,
        "decided_bytes": None,
        "parts": [],
        "paths": [],
        "answer": None,
    }
    if names[0] == layout.LEDGER_ROOT:
        return body | _ledger_file(store, names, path)
    kind = _TREES.get(names[0], Kind.HOUR)
    if kind is not Kind.HOUR:
        names = names[1:]
    try:
        topic, *directory, name = names
        hour = layout.parse_hour_directory("/".join(directory))
    except ValueError:
        raise UsageError(f"{path}: not a path of this layout", hint="TOPIC/dt=…/hour=…/NAME below the root") from None
    body |= {"tree": kind.value, "topic": topic}
    part = layout.parse_part_name(name)
    if part is not None:
        return body | _part_file(store, topic, part, path)
    marker, manifest = read_manifest(store, path.rsplit("/", 1)[0])
    if layout.parse_compacted_name(name) is not None or layout.parse_replaced_name(name) is not None:
        made = _compacted_file(store, topic, kind, hour, name)
        if made is not None:
            return body | {"marker": marker} | made
    if layout.parse_reinjected_name(name) is not None:
        return body | _reinjected_file(store, topic, path)
    if manifest is None:
        return body | {"is": "unknown", "why": "no decision names it, and its hour has no marker"}
    return body | _finished(manifest, name, marker)


def _finished(manifest: Plan, name: str, marker: str) -> dict[str, Any]:
    found: dict[str, Any] = {"topic_id": manifest.topic_id, "marker": marker}
    if name == marker:
        return found | {"is": "marker", "why": f"the marker of {len(manifest.files)} files"}
    file = next((file for file in manifest.files if file.name == name), None)
    if file is None:
        return found | {"is": "unknown", "why": f"its hour has {marker}, which does not name it"}
    found |= {"is": "finished", "decided_bytes": file.size, "parts": [_part(part) for part in file.parts]}
    return found | {"why": f"merged of {len(file.parts)} decided parts, named by {marker}"}


def _compacted_file(store: Store, topic: str, kind: Kind, hour: int, name: str) -> dict[str, Any] | None:
    """A file that a compaction made, or copied and keeps for a while."""
    ids = topic_ids(store, topic)
    found = compacted.explained(store, topic, ids, kind, hour, window_of(store, topic, ids[-1]), name)
    if found is None:
        return None
    topic_id, record, file = found
    made = [made.name for made in record.made if any(source.name == file.name for source in made.sources)]
    if made:
        why = f"now in {', '.join(made)}, by compaction {record.number}: kept for readers that have it open"
    else:
        why = f"merged of {len(file.parts)} decided parts, as compaction {record.number} and those before say"
    return {
        "topic_id": topic_id,
        "is": "replaced" if made else "compacted",
        "decided_bytes": file.size,
        "parts": [_part(part) for part in file.parts],
        "why": why,
    }


def _reinjected_file(store: Store, topic: str, path: str) -> dict[str, Any]:
    """A late file of records that were quarantined once."""
    for topic_id in reversed(topic_ids(store, topic)):
        record = reinject.find(store, topic, topic_id, path)
        if record is not None:
            number, file = record
            why = f"{file['count']} records that were quarantined, run again by 'logflume quarantine', record {number}"
            return {"topic_id": topic_id, "is": "reinjected", "decided_bytes": file["bytes"], "why": why}
    return {"is": "unknown", "why": "no decision names it"}


def _part_file(store: Store, topic: str, name: layout.PartName, path: str) -> dict[str, Any]:
    """A part by the offset in its name, under each id that the topic ever had."""
    for topic_id in reversed(topic_ids(store, topic)):
        pid = PartitionId(topic, topic_id, name.partition)
        if pid not in commit.chains(store, topic, topic_id):
            continue
        answer = locate_offset(store, pid, name.first)
        found = {"is": "part", "topic_id": topic_id, "answer": answer}
        if answer.part and _same(answer.part, path):
            return found | {"why": answer.why}
        if answer.fate is Fate.FORGOTTEN:
            return found | {"why": "decided by an entry that was dropped, if by any"}
    return {"is": "unknown", "why": "no decision names it"}


def _same(part: str, path: str) -> bool:
    """A part shows under its name without the underscore once its hour is marked."""
    directory, name = part.rsplit("/", 1)
    return path in (part, f"{directory}/{name.removeprefix('_')}")


def _ledger_file(store: Store, names: list[str], path: str) -> dict[str, Any]:
    number = layout.parse_chain_directory(names[3]) if len(names) > 4 else None
    if number is None:
        return {"is": "ledger", "why": "a file of logflume's own: a plan, topic.json, or a copy on its way"}
    pid = PartitionId(names[1], names[2], number)
    if names[4] == "tmp":
        return _upload(store, pid, names[-1], path)
    seq = layout.parse_entry_name(names[4])
    if seq is None:
        return {"is": "unknown", "why": "not an entry"}
    found = {"is": "entry", "topic": pid.topic, "topic_id": pid.topic_id}
    try:
        entry = commit.read_entry(store, pid, seq).entry
    except Missing:
        return found | {"why": "there is no such entry (now)"}
    why = f"{entry.what} by {entry.owner}: {len(entry.parts)} parts, C {entry.state.committed}"
    return found | {"paths": [part.path for part in entry.parts], "why": why}


def _upload(store: Store, pid: PartitionId, name: str, path: str) -> dict[str, Any]:
    first = name.split("-", maxsplit=1)[0]
    if not (first.isdigit() and len(first) == 19):
        return {"is": "upload", "why": "an entry on its way, or left"}
    answer: Answer = locate_offset(store, pid, int(first))
    if answer.place is not None and answer.place.path == path:
        return {"is": "upload", "answer": answer, "why": f"decided by entry {answer.entry}, and not published yet"}
    return {"is": "upload", "why": "no entry names it: in flight, or left by an owner that is gone"}
