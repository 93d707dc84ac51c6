"""Which topics are meant: names, and patterns that start with "^"."""

from __future__ import annotations

import re
from collections.abc import Sequence

# Kafka's own topics: never meant by a pattern, such as "^.*".
INTERNAL = ("__consumer_offsets", "__transaction_state", "__share_group_state")


class Wanted:
    """The topics that a list of names and patterns means, as Python's ``re.match`` sees it.

    A group's patterns are matched elsewhere, in other dialects: by librdkafka (the C library's regcomp, from the start)
    in classic groups, by the broker (RE2, the whole name) with KIP-848. So a pattern should spell out its end, as in
    "^app-.*", and the configuration refuses what they do not have in common.
    """

    def __init__(self, topics: Sequence[str]) -> None:
        self._names = frozenset(name for name in topics if not name.startswith("^"))
        self._patterns = [re.compile(name) for name in topics if name.startswith("^")]

    def __contains__(self, topic: str) -> bool:
        if topic in self._names:
            return True
        return topic not in INTERNAL and any(pattern.match(topic) for pattern in self._patterns)
