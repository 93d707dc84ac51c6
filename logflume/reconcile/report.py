"""The result for people, for programs, and for Prometheus."""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from logflume.reconcile.findings import MEANINGS, Finding, Mend, What
from logflume.reconcile.run import Report

#: findings of one kind that the table shows
SHOWN = 20

VERDICTS = {
    0: "clean",
    9: "a person is needed",
    10: "--repair would mend it",
    11: "repaired",
}


def as_dict(report: Report) -> dict[str, Any]:
    """The contract of ``--json``: keys are added, never changed."""
    return {
        "v": 1,
        "root": report.root,
        "started_ms": report.started_ms,
        "seconds": round(report.seconds, 3),
        "exit_code": report.exit_code,
        "verdict": VERDICTS[report.exit_code],
        "mode": {
            "full": report.options.full,
            "deep": report.options.deep,
            "repair": report.options.repair,
        },
        "kafka": report.kafka,
        "checkpoint": report.checkpoint,
        "calls": report.calls,
        "topics": {name: asdict(figures) for name, figures in sorted(report.topics.items())},
        "findings": [_finding(finding) for finding in report.findings],
        "repaired": [_finding(finding) for finding in report.mended],
        "commands": report.commands,
    }


def as_json(report: Report) -> str:
    return json.dumps(as_dict(report), indent=2)


def _finding(finding: Finding) -> dict[str, Any]:
    body = asdict(finding)
    return body | {
        "what": finding.what.value,
        "mend": finding.mend.value,
        "meaning": MEANINGS[finding.what][1],
        "ranges": [list(one) for one in finding.ranges],
    }


def as_text(report: Report) -> str:
    """For people: what was looked at, what was found, what to do."""
    return "\n".join([*_topics(report), *_found(report), *_last(report)])


def _topics(report: Report) -> Iterator[str]:
    columns = (
        "topic",
        "partitions",
        "entries",
        "offsets",
        "hours",
        "complete",
        "incomplete",
        "open",
        "files",
        "records",
    )
    rows = [
        (name, f.partitions, f.entries, f.offsets, f.hours, f.complete, f.incomplete, f.open, f.files, f.records)
        for name, f in sorted(report.topics.items())
    ]
    if not rows:
        yield f"no ledger below {report.root}"
        return
    texts = [columns, *[tuple(f"{value:,}" if isinstance(value, int) else value for value in row) for row in rows]]
    widths = [max(len(row[i]) for row in texts) for i in range(len(columns))]
    for row in texts:
        yield "  ".join(
            text.ljust(width) if i == 0 else text.rjust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        )
    yield ""


def _found(report: Report) -> Iterator[str]:
    for title, findings in (("repaired", report.mended), ("found", report.findings)):
        counts = Counter(finding.what for finding in findings)
        for what, count in sorted(counts.items()):
            yield f"{title}: {count} × {what.value}: {MEANINGS[what][1]}"
            few = [finding for finding in findings if finding.what is what]
            for finding in few[:SHOWN]:
                yield f"  {finding.path or finding.topic}: {finding.detail}"
            if count > SHOWN:
                yield f"  … and {count - SHOWN} more (--json has them all)"
            hint = next((finding.hint for finding in few if finding.hint), "")
            if hint:
                yield f"  hint: {hint}"
    if report.commands:
        yield "to bring back what is lost, while Kafka has it:"
        yield from (f"  {command}" for command in report.commands[:SHOWN])
        if len(report.commands) > SHOWN:
            yield f"  … and {len(report.commands) - SHOWN} more (--json has them all)"


def _last(report: Report) -> Iterator[str]:
    calls = ", ".join(f"{count:,} {name}" for name, count in report.calls.items())
    yield f"{VERDICTS[report.exit_code]}; {report.seconds:.1f} s; calls to the store: {calls}; kafka {report.kafka}"


def as_metrics(report: Report) -> str:
    """Prometheus' text format. Every kind of finding is there, so that an alert sees 0 and not nothing."""
    counts = Counter(finding.what for finding in report.findings)
    mended = Counter(finding.what for finding in report.mended)
    lines = [
        "# HELP logflume_reconcile_last_run_timestamp_seconds When the last run began.",
        "# TYPE logflume_reconcile_last_run_timestamp_seconds gauge",
        f"logflume_reconcile_last_run_timestamp_seconds {report.started_ms / 1000}",
        "# HELP logflume_reconcile_duration_seconds How long the last run took.",
        "# TYPE logflume_reconcile_duration_seconds gauge",
        f"logflume_reconcile_duration_seconds {report.seconds:.3f}",
        "# HELP logflume_reconcile_exit_code 0 clean, 9 a person is needed, 10 --repair would mend it, 11 repaired.",
        "# TYPE logflume_reconcile_exit_code gauge",
        f"logflume_reconcile_exit_code {report.exit_code}",
        "# HELP logflume_reconcile_findings What the last run found and left.",
        "# TYPE logflume_reconcile_findings gauge",
        *(_sample("findings", {"what": what, "mend": MEANINGS[what][0]}, counts[what]) for what in What),
        "# HELP logflume_reconcile_repaired What the last run found and mended.",
        "# TYPE logflume_reconcile_repaired gauge",
        *(_sample("repaired", {"what": what}, mended[what]) for what in What if MEANINGS[what][0] is Mend.REPAIR),
        "# HELP logflume_reconcile_store_calls Calls to the store in the last run.",
        "# TYPE logflume_reconcile_store_calls gauge",
        *(_sample("store_calls", {"call": name}, count) for name, count in report.calls.items()),
        "# HELP logflume_reconcile_hours Hours that the last run looked at.",
        "# TYPE logflume_reconcile_hours gauge",
    ]
    for name, figures in sorted(report.topics.items()):
        states = {"complete": figures.complete, "incomplete": figures.incomplete, "open": figures.open}
        lines += [_sample("hours", {"topic": name, "state": state}, count) for state, count in states.items()]
    return "\n".join(lines) + "\n"


def _sample(name: str, labels: dict[str, str], value: int) -> str:
    shown = ",".join(f'{key}="{text}"' for key, text in labels.items())
    return f"logflume_reconcile_{name}{{{shown}}} {value}"


def write_metrics(report: Report, path: Path) -> None:
    """Never half a file: node_exporter may read at any moment."""
    fd, tmp = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(fd, "w") as file:
            file.write(as_metrics(report))
        os.chmod(tmp, 0o644)
        os.replace(tmp, path)
    except BaseException:  # Ctrl-C too: a hidden file would stay at each
        os.unlink(tmp)
        raise
