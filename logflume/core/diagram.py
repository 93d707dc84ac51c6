"""The transition table as a picture, for the README: Mermaid, the same text for the same table."""

from __future__ import annotations

import re
from collections.abc import Mapping

from logflume.core.partition import TABLE, Phase, Rule


def mermaid(table: Mapping[tuple[Phase, type], Rule] = TABLE) -> str:
    """One arrow per pair of phases, labelled with the events; what stays in its phase is left out."""
    arrows: dict[tuple[Phase, Phase], list[str]] = {}
    for (phase, event), rule in table.items():
        for end in rule.ends:
            if end is not phase:
                arrows.setdefault((phase, end), []).append(words(event))
    order = list(Phase)
    lines = ["stateDiagram-v2", f"    [*] --> {order[0]}"]
    for start, end in sorted(arrows, key=lambda pair: (order.index(pair[0]), order.index(pair[1]))):
        lines.append(f"    {start} --> {end}: {', '.join(sorted(arrows[start, end]))}")
    ends = [phase for phase in order if not any(start is phase for start, _ in arrows)]
    lines += [f"    {phase} --> [*]" for phase in ends]
    return "\n".join(lines) + "\n"


def words(event: type) -> str:
    """``CaughtUp`` → ``caught up``."""
    return re.sub(r"(?<!^)(?=[A-Z])", " ", event.__name__).lower()
