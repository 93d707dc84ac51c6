"""The quarantine of a topic by reason, with samples."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from logflume.quarantine.read import Quarantined


@dataclass(slots=True)
class Group:
    """All records of one reason. ``samples``: the first ones."""

    reason: str
    count: int = 0
    partitions: set[int] = field(default_factory=set)
    first_hour: int = 1 << 62
    last_hour: int = -(1 << 62)
    samples: list[Quarantined] = field(default_factory=list)

    def take(self, record: Quarantined, samples: int) -> None:
        self.count += 1
        self.partitions.add(record.partition)
        self.first_hour, self.last_hour = min(self.first_hour, record.hour), max(self.last_hour, record.hour)
        if len(self.samples) < samples:
            self.samples.append(record)


def by_reason(found: Iterable[Quarantined], samples: int) -> list[Group]:
    """Most frequent first."""
    groups: dict[str, Group] = {}
    for record in found:
        groups.setdefault(record.reason, Group(record.reason)).take(record, samples)
    return sorted(groups.values(), key=lambda group: (-group.count, group.reason))
