"""Evidence as Markdown. Every figure is computed from what the parts left; none is written here."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from tests.real.catalogue import SCENARIOS

Parts = dict[str, Any]

NAMES = {
    "crash": "Every crash point",
    "simulator": "Simulator",
    "mutants": "Mutants",
    "faults": "Real faults",
    "kills": "Real SIGKILL at a sample of the crash points",
}
HEAD = (
    *("fault", "rows", "runs", "clean", "acknowledged", "lost", "repeated", "misplaced", "early markers"),
    *("at most, 95 %", "lasted s", "recovery s p50 / p99", "read again, records", "bytes", "workers replaced"),
)
NOTES = """\
*Acknowledged* to the producer, and found in the topic. *At most*: the upper bound of 95 % for the share of such
faults that lose, repeat or misplace anything, by so many clean runs (3/n). *Recovery*: from the end of the fault
until the committed offset of every partition is beyond all that was acknowledged by then; for faults marked with *,
which need a person, until every partition concerned says so. With fewer than a hundred runs p99 is the longest.
*Read again*: records that the daemons took beyond one time each, by their own counters (medians; exact to the last
second of a killed worker), and those times the mean size."""
_COUNTS = ("lost", "repeated", "misplaced", "early")


def page(parts: Parts) -> str:
    """The whole report."""
    blocks = [
        "# Evidence",
        "Written by `make evidence`, not by hand; `evidence/evidence.json` has all of it.",
        ran(parts),
    ]
    for name, title in NAMES.items():
        blocks.append(f"## {title}")
        part = parts.get(name)
        blocks.append("This part did not run." if part is None else told(name, part))
    return "\n\n".join(blocks) + "\n"


def ran(parts: Parts) -> str:
    lines = ["| part | when | commit | took | machine | load at its start |", "|---|---|---|---|---|---|"]
    for name, title in NAMES.items():
        part = parts.get(name)
        if part is None:
            lines.append(f"| {title} | did not run | | | | |")
            continue
        on = part["machine"]
        size = f"{on['cores']} cores ({on['cpu']}), {on['memory_gib']} GiB"
        versions = f"Python {on['python']}, librdkafka {on['librdkafka']}, hdfs-native {on['packages']['hdfs-native']}"
        took = f"{part['seconds'] / 60:.1f} min"
        lines.append(
            f"| {title} | {on['date']} | {', '.join(part['commits'])} | {took} | {size}; {versions} | {on['load']} |"
        )
    return "\n".join(lines)


def told(name: str, part: dict[str, Any]) -> str:
    """One part: its figures, or that it left none."""
    how = f"exit code {part['exit']}" if part["exit"] >= 0 else "broken off before its end"
    head = f"`{part['command']}`, {how}."
    result = part["result"]
    if result is None:
        return f"{head}\n\nIt ended without leaving any figures."
    return f"{head}\n\n{_TOLD[name](result)}"


# -- each part ------------------------------------------------------------------------------------


def crash(result: dict[str, Any]) -> str:
    lines = ["| variant | effects | points | tried | not clean |", "|---|---|---|---|---|"]
    lines += [
        f"| {one['variant']} | {one['effects']} | {one['known']} | {sum(one['tried'].values())} "
        f"| {len(one['failures'])} |"
        for one in result["variants"]
    ]
    return "\n".join([*lines, "", crash_line(result)])


def crash_line(result: dict[str, Any]) -> str:
    tried = sum(sum(one["tried"].values()) for one in result["variants"])
    failed = sum(len(one["failures"]) for one in result["variants"])
    known = sum(one["known"] for one in result["variants"])
    return f"{tried} crash points tried of {known}, {failed} not clean."


def simulator(result: dict[str, Any]) -> str:
    return (
        f"{result['seeds']} seeds, {result['steps']} steps, {result['records']} records, "
        f"{result['hours']} hours marked: {len(result['failures'])} seeds not clean."
    )


def mutants(result: dict[str, Any]) -> str:
    caught = sum(one["caught"] for one in result["verdicts"])
    missed = [one["name"] for one in result["verdicts"] if not one["caught"]]
    text = f"{caught} caught of {len(result['verdicts'])} tried; {result['known']} are kept."
    return text + (f" Missed: {', '.join(missed)}." if missed else "")


def faults(result: list[dict[str, Any]]) -> str:
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for one in result:
        groups[one["scenario"]].append(one)
    lines = [f"| {' | '.join(HEAD)} |", f"|{'---|' * len(HEAD)}"]
    lines += [fault(name, runs) for name, runs in groups.items()]
    return "\n".join(
        [
            *lines,
            "",
            faults_line(result),
            "",
            not_run(result),
            "",
            NOTES,
        ]
    )


def fault(name: str, runs: list[dict[str, Any]]) -> str:
    tried = [one for one in runs if not one["explained"]]
    rows = " ".join(runs[0]["rows"])
    if not tried:
        return f"| {name} | {rows} | not run: {runs[0]['explained']} |{' |' * (len(HEAD) - 3)}"
    clean = sum(one["ok"] for one in tried)
    times = sorted(one["recovery_s"] for one in tried if one["recovery_s"] is not None)
    cells = [
        f"{name}{' *' if runs[0]['stops'] else ''}",
        rows,
        len(tried),
        clean,
        sum(one["acknowledged"] for one in tried),
        *(sum(one[count] for one in tried) for count in _COUNTS),
        bound(clean) if clean == len(tried) else "–",
        f"{rank([one['held_s'] for one in tried], 0.5):g}",
        f"{rank(times, 0.5):g} / {rank(times, 0.99):g}" if times else "–",
        f"{rank([one['again'] for one in tried], 0.5):.0f}",
        f"{rank([one['again_bytes'] for one in tried], 0.5):.0f}",
        sum(one["workers_died"] for one in tried),
    ]
    return f"| {' | '.join(map(str, cells))} |"


def faults_line(result: list[dict[str, Any]]) -> str:
    tried = [one for one in result if not one["explained"]]
    clean = sum(one["ok"] for one in tried)
    counts = ", ".join(f"{sum(one[count] for one in tried)} {count}" for count in _COUNTS)
    names = {one["scenario"] for one in tried}
    text = (
        f"{len(names)} faults of {len(SCENARIOS)}, {len(tried)} runs, {clean} clean; "
        f"{sum(one['acknowledged'] for one in tried)} records acknowledged: {counts.replace('early', 'early markers')}"
    )
    return text + (f"; at most {bound(clean)} of such runs are not clean (95 %)." if clean == len(tried) else ".")


def not_run(result: list[dict[str, Any]]) -> str:
    ran = {one["scenario"] for one in result if not one["explained"]}
    missing = [scenario.name for scenario in SCENARIOS if scenario.name not in ran]
    return f"Not run: {', '.join(missing) or 'none'}."


def kills(result: dict[str, Any]) -> str:
    met = [one for one in result["kills"] if one["call"]]
    table: dict[tuple[str, str], int] = defaultdict(int)
    for one in met:
        table[one["call"], one["how"]] += 1
    lines = ["| effect | before | during | after |", "|---|---|---|---|"]
    lines += [
        f"| {call} | {' | '.join(str(table[call, how]) for how in ('before', 'during', 'after'))} |"
        for call in sorted({one["call"] for one in met})
    ]
    return "\n".join([*lines, "", kills_line(result)])


def kills_line(result: dict[str, Any]) -> str:
    met = [one for one in result["kills"] if one["call"]]
    failed = [one for one in result["kills"] if not one["ok"]]
    counts = ", ".join(f"{sum(one[count] for one in met)} {count}" for count in _COUNTS)
    return (
        f"{len(met)} workers killed at one of {result['effects']} effects on real HDFS, {len(failed)} runs not clean; "
        f"{sum(one['acknowledged'] for one in met)} records: {counts.replace('early', 'early markers')}."
    )


def bound(clean: int) -> str:
    return f"{3 / clean:.2g}" if clean > 3 else "1"


def rank(values: Sequence[float], share: float) -> float:
    """Nearest rank: a value that was measured."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


_TOLD: dict[str, Any] = {
    "crash": crash,
    "simulator": simulator,
    "mutants": mutants,
    "faults": faults,
    "kills": kills,
}
_LINES: dict[str, Any] = {**_TOLD, "crash": crash_line, "faults": faults_line, "kills": kills_line}


def summary(parts: Parts) -> str:
    """For the README: a line for each part."""
    lines = ["| what was run | when, commit | what came of it |", "|---|---|---|"]
    for name, title in NAMES.items():
        part = parts.get(name)
        if part is None or part["result"] is None:
            lines.append(f"| {title} | did not run | |")
            continue
        on = part["machine"]
        lines.append(f"| {title} | {on['date']}, {', '.join(part['commits'])} | {_LINES[name](part['result'])} |")
    machines = sorted({f"{p['machine']['cores']} cores, {p['machine']['memory_gib']} GiB" for p in parts.values()})
    return "\n".join([*lines, "", f"Machine: {'; '.join(machines) or 'none'}. All of it: `evidence/evidence.md`."])
