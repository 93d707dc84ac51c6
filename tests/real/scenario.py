"""What a fault is, and what one run of it came to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.real.ground import Ground


def nothing(_ground: Ground) -> None:
    """Heals by what every run does at its end of the fault: all servers run, all proxies pass."""


@dataclass(frozen=True)
class Scenario:
    """``inject`` causes the fault, which lasts for a random time within ``holds_s``; then everything is healed.

    rows     of the fault catalogue
    heal     what has to be undone besides servers and proxies
    stops    "" means that logflume recovers by itself. Else a regular expression that its log has to match for
             each partition in ``Ground.affected``, with ``{topic}`` and ``{partition}``: a person is needed
    waits    the daemon may log that a partition stopped, since it is looked at again every 30 s
    quick    among those that ``--quick`` runs
    """

    name: str
    rows: tuple[str, ...]
    inject: Callable[[Ground], None]
    heal: Callable[[Ground], None] = nothing
    holds_s: tuple[float, float] = (6.0, 12.0)
    stops: str = ""
    waits: bool = False
    partitions: int = 4
    replicas: int = -1
    topic: Mapping[str, str] = field(default_factory=dict)
    small_disk: bool = False
    pair: bool = False  # two NameNodes
    quick: bool = False


@dataclass
class Outcome:
    """One run. Counts are the checker's; seconds are the runner's clock.

    ``recovery_s``: from the end of the fault until the group's committed offset of every partition, which follows
    the ledger, is at or beyond all that had been acknowledged when the fault ended; where a person is needed,
    until every affected partition has said so.
    ``again``: records that daemons took from Kafka beyond one time each, by their own counters: exact to the
    second of reading that a killed worker does not report any more.
    """

    scenario: str
    rows: list[str]
    seed: int
    ok: bool = False
    failure: str = ""
    explained: str = ""
    stops: bool = False
    acknowledged: int = 0
    lost: int = 0
    repeated: int = 0
    misplaced: int = 0
    early: int = 0
    pending: int = 0
    hours: int = 0
    held_s: float = 0.0
    recovery_s: float | None = None
    again: int = 0
    again_bytes: int = 0
    workers_died: int = 0
    seconds: float = 0.0
