"""How an entry of the ledger is spelled on disk: one line of JSON with its check sum in front."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from logflume.core.ledger import Blind, Closing, Entry, Head, Part, State
from logflume.errors import LedgerError
from logflume.model import Kind, OffsetSet, PartitionId

FORMAT = 1
_SUM = re.compile(rb'\{"sum":"([0-9a-f]{64})",')


def encode(entry: Entry) -> bytes:
    """Compact JSON with sorted keys and a newline at the end, its check sum in front; ``decode`` is the inverse."""
    body = {
        "v": FORMAT,
        "topic": entry.pid.topic,
        "topic_id": entry.pid.topic_id,
        "partition": entry.pid.partition,
        "seq": entry.seq,
        "prev": entry.prev,
        "what": entry.what,
        "owner": entry.owner,
        "epoch": entry.epoch,
        "at": entry.at,
        "config": entry.config,
        "parts": [part_json(part) for part in entry.parts],
        "closed": [_closing_json(closing) for closing in entry.closed],
        "gaps": pack(entry.gaps),
        "dropped": pack(entry.dropped),
        "note": entry.note,
        "state": _state_json(entry.state),
    }
    text = json.dumps(body, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    # The newest entry has no successor yet that would tell whether it was touched.
    return b'{"sum":"%s",%s' % (_sha256(text).encode(), text[1:])


def decode(data: bytes, *, pid: PartitionId | None = None, seq: int | None = None) -> Head:
    """An entry and its hash. Raises LedgerError when it is not one, or not the one asked for (H19)."""
    where = f"entry {seq} of {pid}" if pid is not None else "entry"
    found = _SUM.match(data)
    if found is None or found[1] != _sha256(b"{" + data[found.end() :]).encode():
        raise LedgerError(f"{where} is damaged: it does not have the check sum that it names")
    try:
        body = json.loads(data)
        if body["v"] != FORMAT:
            raise LedgerError(f"{where} has format {body['v']!r}, and this program knows {FORMAT}")
        entry = Entry(
            pid=PartitionId(body["topic"], body["topic_id"], body["partition"]),
            seq=body["seq"],
            prev=body["prev"],
            what=body["what"],
            owner=body["owner"],
            epoch=body["epoch"],
            at=body["at"],
            config=body["config"],
            state=_state(body["state"]),
            parts=tuple(part_from(part) for part in body["parts"]),
            closed=tuple(_closing(closing) for closing in body["closed"]),
            gaps=unpack(body["gaps"]),
            dropped=unpack(body["dropped"]),
            note=body["note"],
        )
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise LedgerError(f"{where} cannot be read: {type(error).__name__}: {error}") from error
    if (pid is not None and entry.pid != pid) or (seq is not None and entry.seq != seq):
        raise LedgerError(f"{where} says it is entry {entry.seq} of {entry.pid} ({entry.pid.topic_id})")
    return Head(entry, _sha256(data))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def pack(offsets: OffsetSet) -> str:
    return base64.b64encode(offsets.dumps()).decode() if offsets else ""


def unpack(text: str) -> OffsetSet:
    return OffsetSet.loads(base64.b64decode(text)) if text else OffsetSet()


def part_json(part: Part) -> dict[str, Any]:
    return {
        "kind": part.kind.value,
        "hour": part.hour,
        "path": part.path,
        "tmp": part.tmp,
        "bytes": part.size,
        "raw": part.raw,
        "count": part.count,
        "sha256": part.sha256,
        "offsets": pack(part.offsets),
        "min_time": part.min_time,
        "max_time": part.max_time,
        "reasons": dict(part.reasons),
    }


def part_from(body: Mapping[str, Any]) -> Part:
    return Part(
        kind=Kind(body["kind"]),
        hour=body["hour"],
        path=body["path"],
        tmp=body["tmp"],
        size=body["bytes"],
        raw=body["raw"],
        count=body["count"],
        sha256=body["sha256"],
        offsets=unpack(body["offsets"]),
        min_time=body["min_time"],
        max_time=body["max_time"],
        reasons=body["reasons"],
    )


def _closing_json(closing: Closing) -> list[Any]:
    return [closing.since, closing.until, closing.boundary, closing.reason, closing.at]


def _closing(body: list[Any]) -> Closing:
    return Closing(*body)


def _state_json(state: State) -> dict[str, Any]:
    body = {name: getattr(state, name) for name in _PLAIN}
    body["boundaries"] = [_closing_json(closing) for closing in state.boundaries]
    body["decided"] = pack(state.decided)
    body["rejected"] = pack(state.rejected)
    body["blind"] = [[blind.since, blind.until, blind.offset, blind.reason] for blind in state.blind]
    body["unfinished"] = {str(hour): seq for hour, seq in state.unfinished.items()}
    return body


def _state(body: Mapping[str, Any]) -> State:
    return State(
        **{name: body[name] for name in _PLAIN},
        boundaries=tuple(_closing(closing) for closing in body["boundaries"]),
        decided=unpack(body["decided"]),
        rejected=unpack(body["rejected"]),
        blind=tuple(Blind(*blind) for blind in body["blind"]),
        unfinished={int(hour): seq for hour, seq in body["unfinished"].items()},
    )


_PLAIN = (
    "window_ms",
    "start",
    "position",
    "committed",
    "watermark",
    "seen",
    "frontier",
    "first_hour",
    "finished_until",
    "leader_epoch",
    "late",
    "quarantined",
    "dropped",
)
