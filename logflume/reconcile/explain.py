"""Files that no decision names and that are right all the same: compactions and reinjections have records of theirs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from logflume.compact.record import Record
from logflume.core import layout
from logflume.quarantine import reinject
from logflume.reconcile import compacted
from logflume.reconcile.findings import Finding, What
from logflume.reconcile.plan import Look
from logflume.reconcile.walk import TopicWalk
from logflume.store.base import Store


@dataclass(frozen=True, slots=True)
class Explain:
    """By the records of all ids of a topic."""

    store: Store
    topic: str
    walks: Sequence[TopicWalk]
    settled_ms: int

    def compactions(self, directory: str, names: Iterable[str], *, whole_hour: bool = False) -> list[Record]:
        """The records that explain files of these names; no call where none looks like a compaction's."""
        if not compacted.concerns(names):
            return []
        ids, window = [walk.topic_id for walk in self.walks], self.walks[0].window_ms
        place = compacted.place_of(directory, hour=whole_hour)
        return compacted.newest(self.store, self.topic, ids, directory, place, window)

    def is_compacted(self, directory: str, name: str, *, whole_hour: bool = False) -> bool:
        found = self.compactions(directory, [name])
        if whole_hour:
            found += self.compactions(directory, [name], whole_hour=True)
        return compacted.is_explained(name, found)

    def merged_in(self, directory: str, files: Mapping[str, int]) -> dict[str, str]:
        """Names under which parts would show that a merged file holds, to its name; of the files there, by length."""
        return {
            part.name.removeprefix("_"): file.name
            for record in self.compactions(directory, files)
            for file in record.files
            if files.get(file.name) == file.size
            for part in file.parts
        }

    def is_reinjected(self, name: str) -> bool:
        """A late file with records that are in the quarantine, too: a record says that it has to be so."""
        return layout.parse_reinjected_name(name) is not None and any(
            reinject.explains(reinject.newest(self.store, self.topic, walk.topic_id), name) for walk in self.walks
        )

    def left(self, record: Record, look: Look) -> list[Finding]:
        """A run that is at it just now is none."""
        if record.at > self.settled_ms or not compacted.is_left(record, dict(look.files)):
            return []
        spot = record.spot
        detail = f"of {spot.directory}; the next 'logflume compact' completes it, too"
        path = spot.path(record.number)
        return [Finding(What.COMPACTION_LEFT, self.topic, path, detail, spot.topic_id, hour=spot.name)]

    def may_be(self, partition: int, first: int) -> bool:
        """Whether an entry that is not there any more may have decided it."""
        chains = [walk.chains.get(partition) for walk in self.walks]
        return any(chain is not None and chain.is_unknown(first) for chain in chains)
