"""Results as Markdown."""

from __future__ import annotations

from typing import Any


def table(found: dict[str, Any]) -> str:
    """The table for one file of bench/results."""
    about = found["machine"]
    head = (
        f"{about['date']}, commit {about['commit']}, {about['cores']} cores ({about['cpu']}), "
        f"{about['memory_gib']} GiB, Python {about['python']}, librdkafka {about['librdkafka']}, "
        f"load average {_loads(found)}\n\n"
    )
    if "ledger" in found and "hours" in found:
        return head + _ledger(found)
    if "first_start_s" in found:
        return head + _scale(found)
    if "stages_us" in found:
        return head + _stages(found)
    return head + (_throughput(found) if "medians" in found else _hours(found))


def _loads(found: dict[str, Any]) -> str:
    loads = [run["load_average"] for run in found.get("runs", [])] or [found["machine"]["load"]]
    return f"{min(loads)} to {max(loads)}"


def _throughput(found: dict[str, Any]) -> str:
    lines = [
        (
            "| | records/s, median (best) | ratio | to the last `_SUCCESS` (ratio) | CPU µs a record, median (best) "
            "| ratio | with start and stop | ratio | peak MB |"
        ),
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, one in found["medians"].items():
        lines.append(
            f"| {name} | {_thousands(one.get('records_s'))} ({_thousands(one.get('records_s_best'))})"
            f" | {_ratio(one.get('records_s_ratio'))}"
            f" | {_thousands(one.get('wall_records_s'))} ({_ratio(one.get('wall_records_s_ratio'))})"
            f" | {one['cpu_us']:.2f} ({one['cpu_us_best']:.2f}) | {_ratio(one.get('cpu_us_ratio'))}"
            f" | {one['cpu_whole_us']:.2f} | {_ratio(one.get('cpu_whole_us_ratio'))} | {one.get('peak_mb', 0) or '–'} |"
        )
    return "\n".join(lines)


def _stages(found: dict[str, Any]) -> str:
    lines = ["| stage | µs a record |", "|---|---|"]
    return "\n".join(lines + [f"| {name} | {us:.3f} |" for name, us in found["stages_us"].items()])


def _ledger(found: dict[str, Any]) -> str:
    lines = [
        "| partitions | parts an hour | requests an hour | ledger files | ledger bytes | bytes an entry |",
        "|---|---|---|---|---|---|",
    ]
    return "\n".join(
        lines
        + [
            f"| {one['partitions']} | {one['parts_an_hour']} | {one['calls_an_hour_in_all']:.0f}"
            f" | {one['ledger_files_an_hour']:.0f} | {one['ledger_bytes_an_hour']} | {one['entry_bytes']} |"
            for one in found["ledger"]
        ]
    )


def _scale(found: dict[str, Any]) -> str:
    memory = found["worker_mb"]
    return "\n".join(
        [
            f"| {found['partitions']} partitions, {found['open_hours']} open hours each, {found['rate']} records/s | |",
            "|---|---|",
            f"| first start, until the last partition is read, s | {found['first_start_s']} |",
            f"| start with its ledgers there, s | {found['again_s']} |",
            f"| stop, everything decided, s | {found['stop_s']} |",
            f"| worker MB, all parts open: first, last, peak | {memory['first']}, {memory['last']}, {memory['peak']} |",
            f"| ledger: files, bytes | {found['ledger']['files']}, {found['ledger']['bytes']} |",
        ]
    )


def _hours(found: dict[str, Any]) -> str:
    lines = ["| from | hours | p50 s | p90 s | p99 s | max s |", "|---|---|---|---|---|---|"]
    for name, one in found["seconds"].items():
        lines.append(
            f"| {name} | {one['hours']} | {one['p50']:.2f} | {one['p90']:.2f} | {one['p99']:.2f} | {one['max']:.2f} |"
        )
    return "\n".join(lines)


def _thousands(number: float | None) -> str:
    return "–" if number is None else f"{number / 1000:.0f} k"


def _ratio(number: float | None) -> str:
    return "–" if number is None else f"{number:.2f}"
