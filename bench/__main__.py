"""``python -m bench``: see bench/README.md. Servers as for the tests: LOGFLUME_TEST_* or started here."""

from __future__ import annotations

import argparse
from typing import Any

from bench import catchup, hours, ledger, matrix, scale, stages, throughput
from bench.peers import measure as peers
from bench.results import Results
from bench.tables import table
from bench.topic import Load
from tests.stack import Stack, obtain

#: name of the result → command; guard.json is what tests/bench compares with
ALL = {
    "throughput": ["throughput"],
    "guard": ["throughput", "--records", "1000000", "--workers", "1"],
    "stages": ["stages"],
    "hours": ["hours"],
    "ledger": ["ledger"],
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--name", help='of the files in bench/results, instead of the command\'s; "" writes nothing')
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("throughput", help="records/s and CPU a record beside a bare consumer")
    one.add_argument("--records", type=int, default=3_000_000)
    one.add_argument("--partitions", type=int, default=4)
    one.add_argument("--size", type=int, default=220)
    one.add_argument("--jitter-min", type=int, default=1)
    one.add_argument("--pairs", type=int, default=5)
    one.add_argument("--workers", default="1,2,1-python", help="numbers, with a reader that is not the default")
    one.add_argument("--compression", default="gzip")
    one = commands.add_parser("hours", help="time from an hour's last closing record to _SUCCESS")
    one.add_argument("--partitions", default="4,64,256")
    one.add_argument("--hours", type=int, default=52, help="the first one is not counted")
    one.add_argument("--seconds", type=float, help="real time for an hour of event time; else by the partitions")
    one.add_argument("--rate", type=int, default=20_000, help="records a second")
    one.add_argument("--store-threads", type=int, help="instead of the default")
    one = commands.add_parser("ledger", help="requests to the NameNode, files and bytes an hour")
    one.add_argument("--partitions", default="1,4,16,64")
    one.add_argument("--hours", type=int, default=5)
    one.add_argument("--parts", default="1,2,6", help="of each partition and hour; the closing is an entry more")
    one = commands.add_parser("scale", help="start-up and memory with many partitions")
    one.add_argument("--partitions", type=int, default=1000)
    one.add_argument("--hours", type=int, default=3, help="open ones in each partition")
    one.add_argument("--rate", type=int, default=6_000)
    one.add_argument("--minutes", type=float, default=10.0, help="of memory under way; 0 leaves it out")
    one.add_argument("--entries", type=int, default=720, help="of ledger for each partition; 0 leaves it out")
    one.add_argument("--hour-s", type=float, default=300.0, help="real time of an hour of event time")
    one.add_argument("--roll-every", default="2m")
    one = commands.add_parser("stages", help="CPU a record of each stage alone")
    one.add_argument("--records", type=int, default=3_000_000)
    one = commands.add_parser("peers", help="Spark and Flume beside logflume and a bare consumer")
    one.add_argument("--records", type=int, default=3_000_000)
    one.add_argument("--rounds", type=int, default=3)
    one.add_argument("--peers", default=",".join(peers.PEERS))
    one = commands.add_parser("matrix", help="sizes of records, compressions and jitter, within a time")
    one.add_argument("--megabytes", type=int, default=300, help="of lines in each topic")
    one.add_argument("--minutes", type=float, default=15.0, help="after them nothing more begins")
    one.add_argument("--rounds", type=int, default=5)
    one = commands.add_parser("catchup", help="lag of live partitions while others' backlog drains")
    one.add_argument("--partitions", type=int, default=8)
    one.add_argument("--backlogs", default="3,10", help="hours, one run for each")
    one.add_argument("--seconds", type=float, default=15.0, help="real time for an hour of event time")
    one.add_argument("--rate", type=int, default=20_000, help="records a second of live input")
    commands.add_parser("all", help="what make bench runs, one after the other")
    arguments = parser.parse_args()
    with obtain() as stack:
        if arguments.command != "all":
            _report(stack, arguments, arguments.command if arguments.name is None else arguments.name)
            return
        for name, words in ALL.items():
            _report(stack, parser.parse_args(words), name)


def _report(stack: Stack, arguments: argparse.Namespace, name: str) -> None:
    results = Results(name)
    found = _run(stack, arguments, results)
    results.save(found)
    print(table(found), flush=True)  # noqa: T201


def _run(stack: Stack, arguments: argparse.Namespace, results: Results) -> dict[str, Any]:
    if arguments.command == "peers":
        return peers.measure(
            stack,
            Load(arguments.records),
            peers=[name for name in arguments.peers.split(",") if name],
            rounds=arguments.rounds,
            save=results.save,
        )
    if arguments.command == "matrix":
        return matrix.measure(
            stack,
            megabytes=arguments.megabytes,
            minutes=arguments.minutes,
            rounds=arguments.rounds,
            save=results.save,
        )
    if arguments.command == "catchup":
        return catchup.measure(
            stack,
            partitions=arguments.partitions,
            backlogs=[float(word) for word in arguments.backlogs.split(",")],
            hour_s=arguments.seconds,
            rate=arguments.rate,
            save=results.save,
        )
    if arguments.command == "hours":
        return hours.measure(
            stack,
            partitions=[int(word) for word in arguments.partitions.split(",")],
            hours=arguments.hours,
            seconds=arguments.seconds,
            rate=arguments.rate,
            daemon={"store_threads": arguments.store_threads} if arguments.store_threads else {},
            save=results.save,
        )
    if arguments.command == "ledger":
        partitions, parts = (
            [int(word) for word in text.split(",")] for text in (arguments.partitions, arguments.parts)
        )
        return ledger.measure(stack, partitions=partitions, hours=arguments.hours, rolls=parts, save=results.save)
    if arguments.command == "scale":
        return scale.measure(
            stack,
            partitions=arguments.partitions,
            hours=arguments.hours,
            rate=arguments.rate,
            minutes=arguments.minutes,
            entries=arguments.entries,
            hour_s=arguments.hour_s,
            roll_every=arguments.roll_every,
            save=results.save,
        )
    if arguments.command == "stages":
        return stages.measure(stack, Load(arguments.records))
    load = Load(arguments.records, arguments.partitions, arguments.size, jitter_ms=arguments.jitter_min * 60_000)
    settings: dict[str, Any] = {"compression": arguments.compression}
    if arguments.jitter_min > 5:
        settings["lateness"] = f"{2 * arguments.jitter_min}m"
    workers = arguments.workers.split(",")
    return throughput.measure(stack, load, pairs=arguments.pairs, workers=workers, **settings)


if __name__ == "__main__":
    main()
