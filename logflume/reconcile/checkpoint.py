"""How far an earlier run came: a file beside the ledgers, so that a run from cron reads only what is new.

It is only a hint of where to begin: it can be removed at any time, and the next run proves everything again.
Files are numbered and never overwritten; the last few stay, to look at.

    _logflume/_reconcile/000000000042.json
"""

from __future__ import annotations

import hashlib
import json
import uuid
from typing import Any

from logflume.core import layout
from logflume.errors import LogflumeError
from logflume.log import get
from logflume.reconcile.walk import SavedChain, SavedTopic
from logflume.store.base import Store

log = get(__name__)

FORMAT = 1
#: checkpoints that stay
KEEP = 5

DIRECTORY = f"{layout.LEDGER_ROOT}/_reconcile"

#: (topic, topic id) → what was proved
Saved = dict[tuple[str, str], SavedTopic]


def _numbers(store: Store) -> list[int]:
    found = [layout.parse_entry_name(status.name) for status in store.list(f"{store.root}/{DIRECTORY}")]
    return sorted(number for number in found if number is not None)


def path_of(number: int) -> str:
    return f"{DIRECTORY}/{number:012d}.json"


def load(store: Store) -> tuple[int, Saved]:
    """The newest checkpoint that can be read, and its number; (0, nothing) without one."""
    numbers = _numbers(store)
    for number in reversed(numbers):
        try:
            return numbers[-1], decode(store.read(f"{store.root}/{path_of(number)}"))
        except (LogflumeError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("a checkpoint cannot be used", path=path_of(number), error=str(error))
    return (numbers[-1] if numbers else 0), {}


def save(store: Store, number: int, saved: Saved) -> str | None:
    """Put the checkpoint ``number``; None when another run was quicker (its one is as good)."""
    path = path_of(number)
    if not store.put_if_absent(
        f"{store.root}/{path}", encode(saved), f"{store.root}/{DIRECTORY}/tmp/{uuid.uuid4().hex}"
    ):
        return None
    for old in _numbers(store)[:-KEEP]:
        store.delete(f"{store.root}/{path_of(old)}")
    return path


def encode(saved: Saved) -> bytes:
    body = {
        "v": FORMAT,
        "topics": [
            {
                "topic": topic,
                "topic_id": topic_id,
                "until": one.until,
                "hours": list(one.hours),
                "watch": list(one.watch),
                "chains": {
                    str(n): [c.seq, c.sha256, list(c.pending), c.certain_from] for n, c in sorted(one.chains.items())
                },
            }
            for (topic, topic_id), one in sorted(saved.items())
        ],
    }
    text = json.dumps(body, separators=(",", ":"))
    return json.dumps({"sum": hashlib.sha256(text.encode()).hexdigest(), "body": text}).encode() + b"\n"


def decode(data: bytes) -> Saved:
    """Inverse of ``encode``; raises ValueError and the like for anything else."""
    outer = json.loads(data)
    text: str = outer["body"]
    if hashlib.sha256(text.encode()).hexdigest() != outer["sum"]:
        raise ValueError("it does not have the check sum that it names")
    body: dict[str, Any] = json.loads(text)
    if body["v"] != FORMAT:
        raise ValueError(f"it has format {body['v']!r}, and this program knows {FORMAT}")
    return {
        (one["topic"], one["topic_id"]): SavedTopic(
            chains={int(n): SavedChain(c[0], c[1], tuple(c[2]), c[3]) for n, c in one["chains"].items()},
            until=one["until"],
            hours=tuple(one["hours"]),
            watch=tuple(one["watch"]),
        )
        for one in body["topics"]
    }
