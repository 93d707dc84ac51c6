"""What the demo prints: steps while it works, then tree, offsets and account, for a terminal of 100 columns."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import click

from logflume.demo.account import Account, HourFound
from logflume.demo.daemon import IDLE_GRACE_MS, TOPIC
from logflume.demo.records import BAD, IN_TIME, LATE, LATENESS_MS, MINUTE_MS
from logflume.demo.run import Reporter, Result, Step, clock

WIDTH = 100


class Screen(Reporter):
    """``live`` for a terminal: everything shows as it comes. Else it is kept until ``flush``, without progress."""

    def __init__(self, *, live: bool) -> None:
        self._live = live
        self._kept: list[str] = []
        self._passing = False

    def begin(self, config: Path, text: str) -> None:
        self.show("logflume demo: the real daemon, fed by an embedded Kafka, writing to a local directory")
        self.show("")
        self.show(f"Its configuration is {config}")
        self.show(textwrap.indent(text, "    "))
        self.show("What happens")

    def step(self, step: Step) -> None:
        self.show(f"  {step.at_s:5.1f} s  {step.what:9} {step.text}")

    def progress(self, at_s: float, text: str) -> None:
        if self._live:
            click.echo("\r" + f"  {at_s:5.1f} s  … {text}"[: WIDTH - 1].ljust(WIDTH - 1), nl=False)
            self._passing = True

    def show(self, text: str) -> None:
        self._wipe()
        if self._live:
            click.echo(text)
        else:
            self._kept.append(text)

    def flush(self) -> None:
        self._wipe()
        for text in self._kept:
            click.echo(text)
        self._kept.clear()

    def _wipe(self) -> None:
        if self._passing:
            click.echo("\r" + " " * (WIDTH - 1) + "\r", nl=False)
            self._passing = False


def report(result: Result) -> str:
    """Everything that is known at the end, but for what to try next."""
    parts = [_tree(result), _offsets(result), _account(result)]
    return "\n\n".join("\n".join(part) for part in parts)


def next_steps(result: Result, *, kept: bool) -> str:
    if kept:
        hour = result.account.hours[-1].directory if result.account.hours else result.directory
        look = [
            "Look around",
            f"  zcat {hour}/*.gz | head -2",
            f"  head -30 {hour}/_SUCCESS",
            f"  less {result.directory / 'daemon.log'}",
        ]
    else:
        look = ["Look around: the files are gone again, unless you say", f"  {_program()} demo --dir NEW-DIRECTORY"]
    own = [
        "For your own Kafka and HDFS: copy conf/logflume.toml, set brokers, root and topics, then",
        f"  {_program()} check -c logflume.toml    # all that is wrong with it or the servers, at once",
        f"  {_program()} run -c logflume.toml      # deploy/logflume.service does so under systemd",
    ]
    return "\n".join(["", *look, "", *own])


def _program() -> str:
    """As it can be called from here: 'make demo' leaves it in a virtual environment that is not active."""
    script = Path(sys.executable).with_name("logflume")
    if shutil.which("logflume") or not script.exists():
        return "logflume"
    here = Path.cwd()
    return str(script.relative_to(here) if script.is_relative_to(here) else script)


# -- what is there --------------------------------------------------------------------------------


def _tree(result: Result) -> Iterator[str]:
    account, output = result.account, result.directory / "output"
    yield f"What is there now, in {output}"
    yield f"  ├── {TOPIC}/"
    for i, hour in enumerate(account.hours):
        last = i == len(account.hours) - 1
        yield f"  │   {'└' if last else '├'}── {hour.directory.relative_to(output / TOPIC)}/"
        names = _files(hour)
        for k, (name, note) in enumerate(names):
            branch = "└" if k == len(names) - 1 else "├"
            yield f"  │   {' ' if last else '│'}   {branch}── {name:36}{note}".rstrip()
    rows = [
        (f"_late/{TOPIC}/", f"{account.late:,} records {_in_files(output / '_late')}"),
        (f"_quarantine/{TOPIC}/", f"{account.quarantined.total():,} records {_in_files(output / '_quarantine')}"),
        (f"_logflume/{TOPIC}/", _chains(result)),
    ]
    for name, note in rows:
        yield f"  {'└' if name == rows[-1][0] else '├'}── {name:44}{note}"


def _files(hour: HourFound) -> list[tuple[str, str]]:
    marker = [("_SUCCESS", f"says {hour.promised:,} records")] if hour.complete else []
    names = [(path.name, "") for path in hour.files]
    if names:
        names[-1] = (names[-1][0], f"has {hour.records:,} records, {hour.size / 1024:,.0f} KiB")
    return marker + names


def _in_files(tree: Path) -> str:
    files = len([path for path in tree.glob("*/dt=*/hour=*/*") if path.is_file()])
    return f"in {files} files, by hour as above"


def _chains(result: Result) -> str:
    return f"the ledger: {sum(one.entries for one in result.ledgers)} entries in {len(result.ledgers)} chains"


# -- the two offsets ------------------------------------------------------------------------------


def _offsets(result: Result) -> Iterator[str]:
    yield "The two offsets of each partition, from its ledger"
    yield "  B  where it closed the hour: what comes for the hour at B or above is late"
    yield "  C  as of that moment: what is below it was in decided files, so a restart would read from here"
    yield ""
    head = "".join(f"{'hour ' + clock(hour):>19}" for hour in result.hours)
    yield f"  partition{head}{'at the end':>20}"
    yield f"  {'':9}" + f"{'B':>11}{'C':>8}" * len(result.hours) + f"{'C':>11}{'log end':>9}"
    by_clock = False
    for ledger, end in zip(result.ledgers, result.log_ends, strict=True):
        cells = ""
        for hour in result.hours:
            closed = ledger.closed.get(hour)
            if closed is None:
                cells += f"{'open':>10}{'':9}"
                continue
            by_clock |= closed.reason == "idle"
            cells += f"{closed.boundary:>10,}{'*' if closed.reason == 'idle' else ' '}{closed.committed:>8,}"
        yield f"  {ledger.partition:>9}{cells}{ledger.committed:>11,}{end:>9,}"
    if by_clock:
        silent = f"the partition was silent for {IDLE_GRACE_MS // 1000} s"
        yield f"  * closed by the clock, since {silent}; the others by the records' own time"


# -- the account ----------------------------------------------------------------------------------


def _account(result: Result) -> Iterator[str]:
    account = result.account
    bad_sent = sum(account.sent[reason] for reason in BAD)
    hours = ", ".join(f"{clock(hour.hour)} {hour.records:,}" for hour in account.hours)
    rows = [
        ("in hour files", account.sent[IN_TIME], account.in_hours, hours),
        ("late", account.sent[LATE], account.late, _lateness(account)),
        ("quarantined", bad_sent, account.quarantined.total(), _reasons(account)),
    ]
    yield "The account, counted by reading every file back"
    yield f"  {'':13}{'sent':>9}{'found':>9}"
    for name, sent, found, note in rows:
        first, *rest = textwrap.wrap(note, WIDTH - 36) or [""]
        yield f"  {name:13}{sent:>9,}{found:>9,}   {first}".rstrip()
        yield from (f"{'':36}{line}" for line in rest)
    yield f"  {'records':13}{account.sent.total():>9,}{account.found:>9,}"
    yield ""
    yield (
        f"  lost {account.lost:,}    repeated {account.repeated:,}    misplaced {account.misplaced:,}"
        f"    altered {account.altered:,}    hours complete {complete(result)} of {len(result.hours)}"
    )
    yield ""
    workers = " and ".join(str(pid) for pid in result.killed)
    yield f"  Worker {workers} was killed with SIGKILL in the middle, and the account closes all the same:"
    yield "  the next worker went on from C."


def _lateness(account: Account) -> str:
    usual = f"more than {LATENESS_MS // MINUTE_MS} min after their hour"
    more = account.late - account.sent[LATE]
    if more <= 0:
        return usual
    # only on a machine that stood still for a while
    return f"{usual}; {more:,} since the feed paused too long, so that the clock had closed their hour"


def _reasons(account: Account) -> str:
    return ", ".join(f"{reason} {times:,}" for reason, times in sorted(account.quarantined.items()))


def complete(result: Result) -> int:
    """Of the demo's hours; the clock may have closed one after them, which is empty."""
    return sum(hour.complete for hour in result.account.hours if hour.hour in result.hours)
