"""The demo itself: broker, records, daemon, a killed worker, a stop; then ledgers and account are read."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from logflume.demo import account, offsets, records
from logflume.demo.account import Account
from logflume.demo.daemon import IDLE_GRACE_MS, TOPIC, Daemon, configuration
from logflume.demo.offsets import Ledger
from logflume.demo.records import HOUR_MS, HOURS, IN_TIME, LATE, Sent
from logflume.kafka.embedded import EmbeddedBroker, Outgoing, produce

#: in this time the three hours' records are sent
FEED_S = 14.0
#: records that are there before the daemon starts: it refuses a topic that does not exist
FIRST = 500
#: then a worker is killed, as soon as something has been decided
KILL_AT = 0.5
#: from the last record until the last hour is complete; some 6 s on an idle machine
COMPLETE_S = 90.0
LOOK_S = 0.1


@dataclass(frozen=True, slots=True)
class Step:
    """Something that happened, so many seconds after the start."""

    at_s: float
    what: str
    text: str


@dataclass(frozen=True, slots=True)
class Result:
    directory: Path
    seed: int
    elapsed_s: float
    hours: list[int]
    log_ends: list[int]
    steps: list[Step]
    killed: list[int]
    ledgers: list[Ledger]
    account: Account


class Reporter:
    """Who wants to know what happens; this one does not."""

    def begin(self, config: Path, text: str) -> None:
        """The daemon's configuration is written."""

    def step(self, step: Step) -> None:
        """Something happened."""

    def progress(self, at_s: float, text: str) -> None:
        """Something goes on; the next call replaces this one."""


def run(directory: Path, reporter: Reporter, *, seed: int, count: int = records.RECORDS) -> Result:
    """Run it in an empty directory; what it makes there stays. Raises LogflumeError."""
    log = _Log(reporter)
    log.progress("starting an embedded broker")
    with EmbeddedBroker() as broker:
        config = directory / "logflume.toml"
        config.write_text(configuration(broker.bootstrap, directory), encoding="utf-8")
        reporter.begin(config, config.read_text(encoding="utf-8"))
        log.step("broker", f"an embedded Kafka listens on {broker.bootstrap}")
        log.progress("making records")
        first = records.first_hour(_now_ms(), IDLE_GRACE_MS)
        sent = records.make(first, seed=seed, count=count)
        log.step("records", _describe(first, sent))
        produce(broker.bootstrap, TOPIC, (_outgoing(record) for record in sent[:FIRST]))
        with Daemon(config, directory / "daemon.log") as daemon:
            log.step("daemon", f"'logflume run -c {config.name}' is process {daemon.pid}")
            watch = _Watch(daemon, directory / "output", first, log)
            produce(broker.bootstrap, TOPIC, _paced(sent, watch))
            watch.until_complete()
            log.progress("stopping the daemon")
            daemon.stop()
            log.step("stopped", "the daemon ended in order after SIGTERM")
    log.progress("reading all files back")
    hours = [first + i * HOUR_MS for i in range(HOURS)]
    ledgers = offsets.read(directory / "output", TOPIC, hours)
    counted = account.count(directory / "output", TOPIC, sent)
    log.step("counted", f"all files read back: {counted.found:,} records")
    ends = Counter(record.partition for record in sent)
    return Result(
        directory=directory,
        seed=seed,
        elapsed_s=log.elapsed_s(),
        hours=hours,
        log_ends=[ends[partition] for partition in range(records.PARTITIONS)],
        steps=log.steps,
        killed=watch.killed,
        ledgers=ledgers,
        account=counted,
    )


class _Log:
    """Gives everything its time."""

    def __init__(self, reporter: Reporter) -> None:
        self.steps: list[Step] = []
        self._reporter = reporter
        self._started = time.monotonic()

    def elapsed_s(self) -> float:
        return time.monotonic() - self._started

    def step(self, what: str, text: str) -> None:
        self.steps.append(Step(self.elapsed_s(), what, text))
        self._reporter.step(self.steps[-1])

    def progress(self, text: str) -> None:
        self._reporter.progress(self.elapsed_s(), text)


class _Watch:
    """Looks at the daemon's files and log while it works, and kills its worker once."""

    def __init__(self, daemon: Daemon, output: Path, first_hour: int, log: _Log) -> None:
        self.killed: list[int] = []
        self._daemon, self._output, self._log = daemon, output, log
        self._waiting = [first_hour + i * HOUR_MS for i in range(HOURS)]
        self._restarted = self._reads_again = False
        self._reading_before = 0
        self._next_look = 0.0

    @property
    def complete(self) -> bool:
        return not self._waiting and bool(self.killed)

    def look(self, share: float, text: str) -> None:
        """``share`` of the records are sent. Raises LogflumeError if the daemon has ended."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + LOOK_S
        self._daemon.check()
        for hour in [hour for hour in self._waiting if (self._directory(hour) / "_SUCCESS").exists()]:
            self._waiting.remove(hour)
            self._log.step("complete", f"hour {clock(hour)} has its _SUCCESS")
        if self.killed:
            self._follow_restart()
        elif share >= KILL_AT and self._has_decided():
            self.killed.append(self._daemon.kill_worker())
            self._reading_before = len(self._daemon.events("reading"))
            self._log.step("kill -9", f"worker {self.killed[-1]}, in the middle of its work")
        self._log.progress(text)

    def until_complete(self) -> None:
        """Raises LogflumeError when that takes too long."""
        started = time.monotonic()
        self._log.step("sent", f"the last record; after {IDLE_GRACE_MS // 1000} s of silence the clock may close hours")
        while not self.complete:
            if time.monotonic() - started > COMPLETE_S:
                hours = ", ".join(clock(hour) for hour in self._waiting)
                raise self._daemon.trouble(f"not complete {COMPLETE_S:.0f} s after the last record: hour {hours}")
            self.look(1.0, f"waiting for {' and '.join(clock(hour) for hour in self._waiting)}")
            time.sleep(LOOK_S / 2)

    def _follow_restart(self) -> None:
        workers = self._daemon.workers
        if not self._restarted and workers[-1] not in self.killed:
            self._restarted = True
            self._log.step("restart", f"the daemon has started worker {workers[-1]} instead")
        reading = self._daemon.events("reading")[self._reading_before :]
        if not self._reads_again and len(reading) >= records.PARTITIONS:
            self._reads_again = True
            where = ", ".join(f"{one['offset']:,}" for one in sorted(reading, key=lambda one: str(one["partition"])))
            self._log.step("reading", f"again, each partition from its C: {where}")

    def _has_decided(self) -> bool:
        return any((self._output / TOPIC).glob("dt=*/hour=*/*"))

    def _directory(self, hour: int) -> Path:
        at = datetime.fromtimestamp(hour / 1000, UTC)
        return self._output / TOPIC / at.strftime("dt=%Y-%m-%d/hour=%H")


def _paced(sent: list[Sent], watch: _Watch) -> Iterator[Outgoing]:
    """All but the first records, spread over the feed's time."""
    started = time.monotonic()
    for i, record in enumerate(sent[FIRST:], FIRST):
        if i % 50 == 0:
            due = started + FEED_S * i / len(sent)
            watch.look(i / len(sent), f"{i:,} of {len(sent):,} records sent")
            time.sleep(max(0.0, due - time.monotonic()))
        yield _outgoing(record)


def _outgoing(record: Sent) -> Outgoing:
    return Outgoing(record.partition, record.value, record.arrived_ms, record.id.encode())


def _describe(first: int, sent: list[Sent]) -> str:
    late = sum(record.fate == LATE for record in sent)
    bad = sum(record.fate not in (IN_TIME, LATE) for record in sent)
    end = clock(first + HOURS * HOUR_MS)
    return f"{len(sent):,} of {clock(first)} to {end} UTC for {records.PARTITIONS} partitions; {late} late, {bad} bad"


def clock(hour: int) -> str:
    """``07:00``, in UTC."""
    return datetime.fromtimestamp(hour / 1000, UTC).strftime("%H:%M")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
