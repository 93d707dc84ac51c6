"""One run of one scenario, from an empty topic to the checker's account."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from tests.e2e.bench import Bench, Case, opened, past, span
from tests.e2e.daemon import Daemon, wait_until
from tests.e2e.generate import Shape, make
from tests.e2e.watcher import Watcher
from tests.real.ground import Ground, Servers
from tests.real.scenario import Outcome, Scenario
from tests.stack.server import free_port

HOURS = 6
RECORDS = 9_000
#: at most: what is left is sent at once when logflume has recovered
FEED_S = 90.0
#: records that a scenario sends itself
MORE = 1_000
#: from the first record to the fault: at a random moment of it
AT_S = (4.0, 12.0)
RECOVERY_S = 180.0
#: an hour that was revealed just before an outage is marked after it
BETWEEN_S = 300.0
DISK_BYTES = 4 << 20
SAMPLE_S = 0.5


def run(scenario: Scenario, servers: Servers, seed: int, logs: Path | None = None) -> Outcome:
    """Never raises for what the run came to: that is in the outcome. ``logs``: where the daemons' are kept."""
    outcome = Outcome(scenario.name, list(scenario.rows), seed, stops=bool(scenario.stops))
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="logflume-real-"))
    try:
        with disk(folder, scenario) as mounted:
            if scenario.small_disk and mounted is None:
                outcome.explained = "a small file system cannot be mounted by this user"
            else:
                name = re.sub(r"\W+", "-", scenario.name)
                with opened(Bench(servers.stack, name, folder, servers.reaper)) as bench:
                    one(scenario, servers, bench, mounted, outcome)
                outcome.ok = True
    except Exception:  # whatever it is, it is the finding; the next run goes on
        outcome.failure = traceback.format_exc(limit=-4)
    finally:
        servers.heal()
        if logs is not None:
            shutil.copytree(folder, logs / f"{scenario.name.replace(' ', '-')}-{seed}", dirs_exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
    outcome.seconds = round(time.monotonic() - began, 1)
    return outcome


@contextmanager
def disk(folder: Path, scenario: Scenario) -> Iterator[Path | None]:
    """A small file system for the spool, None where the scenario needs none or this user may not mount."""
    where = folder / "disk"
    where.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(where)]
    if not scenario.small_disk or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        yield None
        return
    try:
        yield where
    finally:
        subprocess.run(["umount", "--lazy", str(where)], check=True)


def one(scenario: Scenario, servers: Servers, bench: Bench, mounted: Path | None, outcome: Outcome) -> None:
    rng, base = random.Random(outcome.seed), past(HOURS + 2)
    case = bench.case(bench.root(), scenario.partitions, topic_config=scenario.topic, replicas=scenario.replicas)
    daemons = [daemon(servers, bench, case, name, mounted) for name in ("first", "second")]
    for each in daemons:
        each.may_stop = scenario.waits or bool(scenario.stops)
        each.start()
    chunks = make(Shape(base, scenario.partitions, HOURS, RECORDS, chunks=300, seed=outcome.seed))
    more = make(Shape(base + HOURS * 3_600_000, scenario.partitions, 1, MORE, chunks=1, seed=outcome.seed))
    for each in daemons:
        wait_until(lambda each=each: "ready" in each.logged(), 90, "it is ready", each)  # type: ignore[misc]
    feed = case.feed(chunks, FEED_S)
    ground = Ground(servers, bench, case, daemons, feed, more, rng, mounted)
    with Watcher(case.tree, {case.topic: case.rules}, between_s=BETWEEN_S), Counted(daemons) as counted:
        time.sleep(rng.uniform(*AT_S))
        injected = time.monotonic()
        try:
            scenario.inject(ground)
            time.sleep(rng.uniform(*scenario.holds_s))
        finally:
            scenario.heal(ground)
            if not scenario.pair:
                servers.heal()
        healed = time.monotonic()
        outcome.held_s = round(healed - injected, 1)
        if scenario.stops:
            wait_stopped(scenario, ground)
        else:
            ground.wait_passed(dict(feed.ends), RECOVERY_S)
        outcome.recovery_s = round(time.monotonic() - healed, 1)
        if scenario.pair:  # the other one does all the work until then
            servers.heal()
        if not scenario.stops:
            ground.finish_feed()
            case.wait_complete(span(base, HOURS), *daemons, timeout_s=RECOVERY_S)
            case.wait_committed(*daemons, group=case.topic, timeout_s=RECOVERY_S)
        time.sleep(1.2)  # workers report once a second
    for each in daemons:
        each.stop()
        each.no_surprise()
    account(scenario, ground, outcome, counted.total())
    if not scenario.stops:
        assert outcome.acknowledged == feed.sent, f"{feed.sent} were acknowledged, the log has {outcome.acknowledged}"
        assert outcome.hours >= HOURS, f"{outcome.hours} hours are complete, not {HOURS}"


def daemon(servers: Servers, bench: Bench, case: Case, name: str, mounted: Path | None) -> Daemon:
    """With deadlines short enough for a test."""
    spool: dict[str, Any] = (
        {} if mounted is None else {"spool": str(mounted / name), "spool_bytes": f"{DISK_BYTES >> 20}MiB"}
    )
    output = servers.output(bench.path())
    return bench.daemon(
        name,
        output["root"],
        [case],
        kafka={"bootstrap.servers": servers.bootstrap},
        output=output,
        http=f"127.0.0.1:{free_port()}",
        call_deadline="15s",
        **spool,
    )


def wait_stopped(scenario: Scenario, ground: Ground) -> None:
    for partition in ground.affected:
        told = re.compile(scenario.stops.format(topic=re.escape(ground.case.topic), partition=partition))
        wait_until(
            lambda told=told: any(told.search(each.logged()) for each in ground.daemons),  # type: ignore[misc]
            RECOVERY_S,
            f"a log says {told.pattern}",
            *ground.daemons,
        )


def account(scenario: Scenario, ground: Ground, outcome: Outcome, taken: int) -> None:
    log = ground.before if ground.before is not None else ground.case.log()
    report = ground.case.check(log)
    outcome.acknowledged = report.acknowledged
    outcome.lost, outcome.repeated = len(report.lost), len(report.repeated)
    outcome.misplaced, outcome.early = len(report.misplaced), len(report.early)
    outcome.pending, outcome.hours = report.pending, len(report.complete)
    outcome.workers_died = sum(each.logged().count("worker died") for each in ground.daemons)
    sizes = [len(record.value or b"") for record in log.records.values()]
    outcome.again = max(0, taken - report.acknowledged)
    outcome.again_bytes = outcome.again * sum(sizes) // max(1, len(sizes))
    report.clean(crashed=True, pending=bool(scenario.stops))


class Counted:
    """How many records the daemons say they took, over all lives of their workers and parents."""

    def __init__(self, daemons: list[Daemon]) -> None:
        self._daemons = daemons
        self._now, self._ended = [0] * len(daemons), [0] * len(daemons)
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._watch, args=(i,), daemon=True) for i in range(len(daemons))]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(10)

    def _watch(self, number: int) -> None:
        while True:
            last = self._stop.wait(SAMPLE_S)
            status = self._daemons[number].status()
            if status is not None:
                taken = sum(one["count"] for one in status["counters"] if one["name"] == "records")
                if taken < self._now[number]:  # the parent was killed, and its counters with it
                    self._ended[number] += self._now[number]
                self._now[number] = taken
            if last:
                return

    def total(self) -> int:
        return sum(self._now) + sum(self._ended)
