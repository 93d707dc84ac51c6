"""What the workers report, in Prometheus's text format (version 0.0.4).

Names follow its rules: base units (seconds, bytes), ``_total`` for what only grows. A time is given as
seconds since 1970, so that ``time() - …`` is its age.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from logflume import __version__
from logflume.daemon.report import PartitionReport
from logflume.status.figures import BOUNDS_S, View, WorkerView

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = Mapping[str, str | int]
Number = int | float


@dataclass(slots=True)
class Family:
    """All samples of one name; ``kind`` is counter, gauge or histogram."""

    name: str
    kind: str
    meaning: str
    lines: list[str] = field(default_factory=list)

    def add(self, value: Number, labels: Labels, suffix: str = "") -> None:
        text = ",".join(f'{name}="{_escaped(str(label))}"' for name, label in labels.items())
        self.lines.append(f"logflume_{self.name}{suffix}{f'{{{text}}}' if text else ''} {value}")

    def render(self) -> str:
        head = f"# HELP logflume_{self.name} {self.meaning}\n# TYPE logflume_{self.name} {self.kind}\n"
        return head + "".join(f"{line}\n" for line in self.lines)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def render(view: View, now: float) -> str:
    """The page for a scrape; ``now`` is the monotonic clock in seconds."""
    families = [_build(), *_counters(view), *_partitions(view), *_hours(view), *_workers(view, now)]
    return "".join(family.render() for family in families)


def _build() -> Family:
    family = Family("build_info", "gauge", "Always 1; the label is the program's version.")
    family.add(1, {"version": __version__})
    return family


# What workers count: name → (the name of its label, its meaning)
_COUNTERS = {
    "records": (
        "fate",
        "Records by fate: hour, late, quarantine:<reason>, dropped (late), repeated (read again, decided before).",
    ),
    "bytes": ("fate", "Bytes of values, before compression, by what became of them."),
    "decisions": ("", "Ledger entries written."),
    "fenced": ("", "Times another owner extended the ledger first, and what was held here was void."),
    "retries": ("", "Claims and decisions tried again after an error."),
    "stopped": ("", "Times a partition stopped for a person; one that stays so counts again at each look at it."),
    "commits": ("", "Offsets committed to Kafka."),
    "commit_failures": ("", "Offsets that Kafka refused; only a hint is lost, the next commit repeats it."),
}


def _counters(view: View) -> list[Family]:
    names = [*_COUNTERS, *sorted({name for name, _, _ in view.counters} - _COUNTERS.keys())]
    families = []
    for name in names:
        label, meaning = _COUNTERS.get(name, ("label", "Counted by the workers."))
        family = Family(f"{name}_total", "counter", meaning)
        for (found, topic, value), count in view.counters.items():
            if found == name:
                labels = {"topic": topic, label: value}
                family.add(count, {name: text for name, text in labels.items() if name and text})
        families.append(family)
    return families


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _lag(partition: PartitionReport) -> int | None:
    if partition.end is None or partition.position is None:
        return None
    return max(0, partition.end - partition.position)


# Gauges of a partition: name, meaning, value (None: not known yet, so no sample)
_GAUGES: list[tuple[str, str, Callable[[PartitionReport], Number | None]]] = [
    (
        "watermark_timestamp_seconds",
        "Largest event time accepted so far, in seconds since 1970.",
        lambda p: _seconds(p.watermark),
    ),
    (
        "frontier_timestamp_seconds",
        "Every hour that ends at or before this is closed; in seconds since 1970.",
        lambda p: _seconds(p.frontier),
    ),
    ("boundary_offset", "Offset at which the last hour was closed (B).", lambda p: p.boundary),
    (
        "committed_offset",
        "Lowest offset that is not in a decided file yet, where a restart reads from (C).",
        lambda p: p.committed,
    ),
    ("position_offset", "Offset up to which records were read.", lambda p: p.position),
    ("lag_offsets", "Offsets between the end of the log and the position.", _lag),
    ("open_parts", "Parts that still take records.", lambda p: p.open_parts),
    (
        "partition_trouble",
        "1 while the partition is stopped or retrying after an error, else 0; the status page has the error.",
        lambda p: int(bool(p.error)),
    ),
]


def _partitions(view: View) -> list[Family]:
    partitions = view.partitions
    families = []
    for name, meaning, value_of in _GAUGES:
        family = Family(name, "gauge", meaning)
        for partition in partitions:
            value = value_of(partition)
            if value is not None:
                family.add(value, {"topic": partition.topic, "partition": partition.partition})
        families.append(family)
    phase = Family("phase", "gauge", "Always 1; the label is what the partition is doing.")
    for one in partitions:
        phase.add(1, {"topic": one.topic, "partition": one.partition, "phase": one.phase})
    stopped = Family("stopped_partitions", "gauge", "Partitions that need a person.")
    stopped.add(sum(one.phase == "stopped" for one in partitions), {})
    return [*families, phase, stopped]


def _hours(view: View) -> list[Family]:
    finished = Family("hours_finished_total", "counter", "Hours marked, by whether they are complete.")
    # with a 0 before the first one: increase() knows nothing of a series that begins at 1
    unfinished = {(one.topic, complete): 0 for one in view.partitions for complete in (False, True)}
    for (topic, complete), count in sorted({**unfinished, **view.finished}.items()):
        finished.add(count, {"topic": topic, "complete": str(complete).lower()})
    took = Family(
        "hour_finish_seconds", "histogram", "Seconds from the last partition's closing an hour to its marker."
    )
    for topic, histogram in view.finish_s.items():
        for bound, count in zip(BOUNDS_S, histogram.buckets, strict=True):
            took.add(count, {"topic": topic, "le": f"{bound:g}"}, "_bucket")
        took.add(histogram.count, {"topic": topic, "le": "+Inf"}, "_bucket")
        took.add(histogram.total, {"topic": topic}, "_sum")
        took.add(histogram.count, {"topic": topic}, "_count")
    held = Family("hours_held", "gauge", "1 while an error keeps hours of the topic from being finished that are due.")
    for topic in view.held:
        held.add(1, {"topic": topic})
    return [finished, took, held]


# Gauges of a worker that reports: name, meaning, value
_WORKER_GAUGES: list[tuple[str, str, Callable[[WorkerView], Number]]] = [
    ("worker_consuming", "1 once all partitions of the worker are claimed.", lambda w: _of(w, "consuming")),
    (
        "worker_paused",
        "1 while the worker does not read since its spool is full.",
        lambda w: _of(w, "paused"),
    ),
    ("spool_bytes", "Bytes of open and waiting parts on the local disk.", lambda w: _of(w, "spool_bytes")),
    ("buffered_bytes", "Bytes of records in memory, not compressed yet.", lambda w: _of(w, "buffered_bytes")),
    (
        "oldest_call_seconds",
        "Seconds that the oldest unanswered call to the store or to Kafka has been running.",
        lambda w: _of(w, "oldest_call_s"),
    ),
]


def _of(worker: WorkerView, name: str) -> Number:
    value: Number = getattr(worker.report, name)
    return int(value) if isinstance(value, bool) else value


def _workers(view: View, now: float) -> Iterable[Family]:
    silent = view.silent(now)
    up = Family("worker_up", "gauge", "1 while the worker runs and reports.")
    restarts = Family("worker_restarts_total", "counter", "Times the worker ended and was replaced.")
    for worker in view.workers:
        up.add(int(worker.worker not in silent), {"worker": worker.worker})
        restarts.add(worker.restarts, {"worker": worker.worker})
    yield from (up, restarts)
    for name, meaning, value_of in _WORKER_GAUGES:
        family = Family(name, "gauge", meaning)
        for worker in view.workers:
            if worker.report is not None:
                family.add(value_of(worker), {"worker": worker.worker})
        yield family
