"""``--deep``: which bytes are which parts; what they have to be is checked in ``deep``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from logflume.config import TopicConfig
from logflume.core import layout
from logflume.core.ledger import Part
from logflume.finish.plan import Plan
from logflume.reconcile import deep
from logflume.reconcile.findings import Finding, What
from logflume.reconcile.plan import Hour, Look
from logflume.store.base import Store


@dataclass(frozen=True, slots=True)
class Reader:
    """Of one topic; ``config`` None: it is not configured, so event times cannot be read again."""

    store: Store
    config: TopicConfig | None

    def hour(self, hour: Hour, look: Look, manifest: Plan | None) -> list[Finding]:
        configs = {one.part.path: one.config for one in hour.decided}
        found: list[Finding] = []
        if manifest is not None:
            for file in manifest.files:
                found += self.file(hour.finding, f"{hour.directory}/{file.name}", file.parts, configs)
            return found
        for one in hour.decided:
            there = look.files.get(one.name)
            if there is not None and there.length == one.part.size:
                found += self.file(hour.finding, one.part.path, [one.part], configs)
        return found

    def file(
        self, finding: Callable[..., Finding], path: str, parts: Iterable[Part], configs: dict[str, str]
    ) -> list[Finding]:
        today = self.config.hash if self.config is not None else None
        segments = [deep.Segment(part, self.config if configs.get(part.path) == today else None) for part in parts]
        damages = deep.read_file(self.store, f"{self.store.root}/{path}", segments) or []
        return [
            finding(
                What.FILE_DAMAGED if damage.bytes_differ else What.FILE_CONTENT,
                path,
                damage.detail,
                [_range_of(damage.part)],
            )
            for damage in damages
        ]


def _range_of(part: Part) -> tuple[int, int, int]:
    name = layout.parse_part_name(part.name)
    return (name.partition if name is not None else -1, part.offsets.first, part.offsets.last)
