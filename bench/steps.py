"""The critical path of an hour, from the daemon's debug lines ``decided`` and ``hour steps``.

It runs from the moment the closing record is sent, through the decision that closed the last partition, to the marker.
"""

from __future__ import annotations

import re
from datetime import datetime

_LINE = re.compile(r"^(\S+Z) \[debug +\] (decided|hour steps)\b(.*)$", re.MULTILINE)
_FIELD = re.compile(r"(\w+)=(\S+)")
_OTHER = {"partition", "until", "topic", "hour"}
#: names of the steps in the lines → what they are called in results, in order
DECIDE = {
    "thread": "last decision: waits for a thread",
    "files": "last decision: its files are compressed to the end",
    "confirm": "last decision: the topic's id is asked for",
    "upload": "last decision: upload",
    "append": "last decision: its entry",
    "publish": "last decision: its parts are renamed",
}
FINISH = {
    "plan": "finish: marker looked for, plan put",
    "publish": "finish: parts looked at",
    "merge": "finish: concat and reveal",
    "sweep": "finish: directory swept",
    "mark": "finish: marker",
}


class Path:
    """Made of a whole log; ``of`` then answers for one hour."""

    def __init__(self, logged: str) -> None:
        #: partition → its decisions in order: when done, closed until, steps
        self._decided: dict[str, list[tuple[float, int, dict[str, float]]]] = {}
        self._finished: dict[int, tuple[float, dict[str, float]]] = {}
        for at, event, rest in _LINE.findall(logged):
            fields = dict(_FIELD.findall(rest))
            when = datetime.fromisoformat(at).timestamp()
            steps = {name: float(took) for name, took in fields.items() if name not in _OTHER}
            if event == "hour steps":
                self._finished.setdefault(int(fields["hour"]), (when, steps))
            elif fields["until"] != "None":
                self._decided.setdefault(fields["partition"], []).append((when, int(fields["until"]), steps))

    def of(self, hour: int, window_ms: int, sent_s: float) -> dict[str, float]:
        """Seconds of each step, in order; {} where the log does not have the hour."""
        closing = [
            next((one for one in decided if one[1] >= hour + window_ms), None) for decided in self._decided.values()
        ]
        there = [one for one in closing if one is not None]
        if hour not in self._finished or not there:
            return {}
        (decided_s, _, decide), (done_s, finish) = max(there, key=lambda one: one[0]), self._finished[hour]
        found = {"the record is sent, read, and its partition closes": decided_s - sum(decide.values()) - sent_s}
        found |= {name: decide.get(step, 0.0) for step, name in DECIDE.items()}
        found["until the finisher begins"] = done_s - sum(finish.values()) - decided_s
        return found | {name: finish.get(step, 0.0) for step, name in FINISH.items()}
