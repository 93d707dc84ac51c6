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
    if not found.get("complete", True):
        head += "**Cut off, or still under way.**\n\n"
    if "catchup" in found:
        return head + _catchup(found)
    if "matrix" in found:
        return head + _matrix(found)
    if "peers" in found:
        return head + _peers(found)
    if "ledger" in found and "hours" in found:
        return head + _ledger(found)
    if "scale" in found:
        return head + _scale(found)
    if "stages_us" in found:
        return head + _stages(found)
    return head + (_throughput(found) if "medians" in found else _hours(found))


def _loads(found: dict[str, Any]) -> str:
    loads = [run["load_average"] for run in found.get("runs", [])] or [found["machine"]["load"]]
    loads += found.get("load_averages", [])
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
            f" | {one['cpu_whole_us']:.2f} | {_ratio(one.get('cpu_whole_us_ratio'))}"
            f" | {_megabytes(one.get('peak_mb'))} |"
        )
    return "\n".join(lines)


def _peers(found: dict[str, Any]) -> str:
    load = found["load"]
    lines = [
        (
            f"{load['records']} records of {load['size']} B, {load['partitions']} partitions, {load['hours']} hours; "
            f"medians (best) of {len(found['runs'])} rounds, ratios to the bare consumer of the same round"
        ),
        "",
        (
            "| | records/s | ratio | to the last file (ratio) | CPU µs a record | ratio | with start and stop | ratio "
            "| peak MB | files | lost | repeated | altered or misplaced | files left open |"
        ),
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, one in found.get("medians", {}).items():
        runs = [run[name] for run in found["runs"] if name in run]
        accounts = [run["account"] for run in runs if "account" in run]
        counts = [
            _span(accounts, *keys) for keys in (("lost",), ("repeated",), ("altered", "misplaced"), ("open_files",))
        ]
        lines.append(
            f"| {name} | {_thousands(one.get('records_s'))} ({_thousands(one.get('records_s_best'))})"
            f" | {_ratio(one.get('records_s_ratio'))}"
            f" | {_thousands(one.get('wall_records_s'))} ({_ratio(one.get('wall_records_s_ratio'))})"
            f" | {one['cpu_us']:.2f} ({one['cpu_us_best']:.2f}) | {_ratio(one.get('cpu_us_ratio'))}"
            f" | {one['cpu_whole_us']:.2f} | {_ratio(one.get('cpu_whole_us_ratio'))} | {one.get('peak_mb', 0):.0f}"
            f" | {_span(runs, 'files')} | {' | '.join(counts)} |"
        )
    for one in found["failures"]:
        lines += ["", f"Round {one['round']}, {one['program']}: {_first_line(one['error'])}"]
    for name, configured in found["peers"].items():
        lines += ["", f"{name}: version {configured['version']}; all of its settings are in the JSON beside this file."]
    return "\n".join(lines)


def _catchup(found: dict[str, Any]) -> str:
    failures: list[str] = []
    lines = [
        (
            f"{found['partitions']} partitions, half of them with a backlog; live input of {found['rate']} records/s "
            f"over all; {found['seconds_an_hour']:g} s of it are an hour"
        ),
        "",
        (
            "| backlog, hours | records | drained in s | records/s of it | of 10 hours of 3,600 s at that input, min "
            "| live lag while draining, s of its input: p50, p99, max | afterwards | worker MB |"
        ),
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in found["catchup"]:
        if "drained_s" not in one:
            lines.append(f"| {one['backlog_hours']:g} | {one.get('backlog_records', '–')}" + " | –" * 6 + " |")
            failures += [f"\nfailed: {line}" for line in one.get("failure", "").splitlines()[:1]]
            continue
        real = 36_000 * found["rate"] / one["drained_records_s"] / 60
        lags = [
            ", ".join(f"{one[name][f'{figure}_s']:.2f}" for figure in ("p50", "p99", "max"))
            for name in ("live_lag_while_draining", "live_lag_afterwards")
        ]
        lines.append(
            f"| {one['backlog_hours']:g} | {one['backlog_records']} | {one['drained_s']} | {one['drained_records_s']}"
            f" | {real:.0f} | {lags[0]} | {lags[1]} | {one['worker_peak_mb']:.0f} |"
        )
    return "\n".join(lines + failures)


def _matrix(found: dict[str, Any]) -> str:
    lines = [
        (
            f"topics of about {found['megabytes']} MB, {found.get('minutes_used', 0)} minutes; one worker, medians, "
            "ratios to the bare consumer of the same pair"
        ),
        "",
        (
            "| record | compression | jitter min | pairs | records/s | ratio | to the last `_SUCCESS` (ratio) "
            "| CPU µs a record | ratio | CPU µs a MB | raw to written | peak MB |"
        ),
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for cell in found["matrix"]:
        about = f"| {cell['size']} B | {cell['compression']} | {cell['jitter_ms'] // 60_000} | {len(cell['runs'])} |"
        if not cell["runs"]:
            lines.append(about + " – |" * 8)
            continue
        one = cell["medians"]["workers-1"]
        lines.append(
            f"{about} {_thousands(one.get('records_s'))} | {_ratio(one.get('records_s_ratio'))}"
            f" | {_thousands(one.get('wall_records_s'))} ({_ratio(one.get('wall_records_s_ratio'))})"
            f" | {one['cpu_us']:.2f} | {_ratio(one.get('cpu_us_ratio'))} | {cell['cpu_us_mb']:.0f}"
            f" | {cell['bytes_ratio']} | {one['peak_mb']:.0f} |"
        )
    lines += [f"\nfailed: {cell['size']} B {_first_line(one)}" for cell in found["matrix"] for one in cell["failures"]]
    return "\n".join(lines)


def _span(runs: list[dict[str, Any]], *keys: str) -> str:
    """Least to most of the sum of some figures over the runs; a dash where no run has them."""
    sums = [sum(run[key] for key in keys) for run in runs if all(key in run for key in keys)]
    return "–" if not sums else f"{sums[0]}" if min(sums) == max(sums) else f"{min(sums)} to {max(sums)}"


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
    rows: list[tuple[str, Any]] = []
    if "month" in found:
        about = found["month"]
        starts = [f"{one['seconds']} ({one['of_the_worker']})" for one in about["starts"]]
        calls = [f"{sum(one['requests_a_partition'].values()):.1f}" for one in about["starts"]]
        rows += [
            (
                f"start over {about['entries']} entries a partition, until the last is read, s (of it the worker)",
                starts,
            ),
            ("requests to the NameNode a partition at these starts", calls),
        ]
    for name, key in (("first start, no ledger", "first_start"), ("start after that run", "again")):
        if key in found:
            rows.append((f"{name}, s (of it the worker)", [f"{found[key]['seconds']} ({found[key]['of_the_worker']})"]))
    if "worker_mb" in found:
        memory = found["worker_mb"]
        rows += [
            (
                "worker MB with all parts open: mean of the first minute, of the last one, peak of all",
                [str(memory[name]) for name in ("first_minute", "last_minute", "peak")],
            ),
            ("mean of each hour of event time", [str(mb) for mb in memory["by_hour"]]),
            ("minutes of that", [f"{found['memory'][-1]['at_s'] / 60:.1f}"]),
            ("hours finished meanwhile", [str(found["hours_finished"])]),
        ]
    if "stop_s" in found:
        rows.append(("stop, everything decided, s", [str(found["stop_s"])]))
    lines = [
        f"| {found['partitions']} partitions, {found['open_hours']} open hours each, {found['rate']} records/s | |",
        "|---|---|",
    ]
    lines += [f"| {name} | {', '.join(values)} |" for name, values in rows]
    return "\n".join(lines + [f"\nfailed: {_first_line(one)}" for one in found["failures"]])


def _hours(found: dict[str, Any]) -> str:
    lines = [
        f"{found['rate']} records/s; of real time an hour takes some seconds",
        "",
        "| partitions | real s an hour | hours | p50 s | p90 s | p99 s | max s | cores | peak MB | feed behind, s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one in found["series"]:
        if "seconds" not in one:
            lines.append(f"| {one['partitions']} | {one['seconds_an_hour']:g}" + " | –" * 8 + " |")
            continue
        all_of_it = one["seconds"]
        lines.append(
            f"| {one['partitions']} | {one['seconds_an_hour']:g} | {all_of_it['hours']} | {_four(all_of_it)}"
            f" | {one['cpu_cores']} | {one['peak_mb']:.0f} | {one['producer_behind_s']} |"
        )
    for one in found["series"]:
        if one.get("critical_path"):
            lines += ["", f"{one['partitions']} partitions, each step of the critical path on its own:", ""]
            lines += ["| step | p50 s | p90 s | p99 s | max s |", "|---|---|---|---|---|"]
            lines += [f"| {name} | {_four(step)} |" for name, step in one["critical_path"].items()]
        if "failure" in one:
            lines += ["", f"{one['partitions']} partitions broke off: {_first_line(one['failure'])}"]
    return "\n".join(lines)


def _four(one: dict[str, float]) -> str:
    return f"{one['p50']:.2f} | {one['p90']:.2f} | {one['p99']:.2f} | {one['max']:.2f}"


def _first_line(text: str) -> str:
    """Of what a failure said, which may be nothing."""
    return (text.splitlines() or ["without a word"])[0]


def _thousands(number: float | None) -> str:
    return "–" if number is None else f"{number / 1000:.0f} k" if number >= 10_000 else f"{number:.0f}"


def _megabytes(number: float | None) -> str:
    return f"{number:.0f}" if number else "–"


def _ratio(number: float | None) -> str:
    return "–" if number is None else f"{number:.2f}"
