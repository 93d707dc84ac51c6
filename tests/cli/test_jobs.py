"""``logflume compact``, ``reveal`` and ``quarantine``: what they print is a contract, and SIGKILL does no harm.

What they do is tested in tests/compact, tests/reveal and tests/quarantine.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from logflume.cli import main
from logflume.compact.record import Place
from logflume.core import layout
from tests.cli import files
from tests.cli.conftest import Invoke
from tests.compact.test_compact import written as with_small_files
from tests.quarantine.test_quarantine import written as with_bad_times
from tests.reconcile.tree import TOPIC, Tree
from tests.reveal.test_reveal import held_back

GOLDEN = Path(__file__).parent / "golden"
KILLS = 20
#: the field of time that quarantined records have
OTHER_FIELD = f'[[topic]]\nname = "{TOPIC}"\ntimestamp = {{ field = "time", unit = "ms" }}\nmax_future = "1d"\n'
FIELD = f'[[topic]]\nname = "{TOPIC}"\ntimestamp = {{ field = "ts", unit = "ms" }}\nlateness = "1m"\n'


@dataclass(frozen=True)
class Job:
    """A command, what it works on, and its settings."""

    make: Callable[[Path], Tree]
    command: Sequence[str]
    topics: str = FIELD

    def arguments(self, base: Path) -> list[str]:
        path = files.write(base, root=f"file://{base}/root", topics=self.topics)
        return [*self.command, "-c", path]


JOBS = {
    "compact": Job(
        lambda base: with_small_files(base, Place.HOUR),
        ["compact", "--tree", "hours", "--tree", "late", "--to", "2026-11-22T08"],
    ),
    "compact-split": Job(
        lambda base: with_small_files(base, Place.APPENDED), ["compact", "--tree", "hours", "--files", "2"]
    ),
    "reveal": Job(held_back, ["reveal", TOPIC, "2026-11-22T07"]),
    "quarantine": Job(with_bad_times, ["quarantine", TOPIC, "--samples", "1"], OTHER_FIELD),
    "reinject": Job(with_bad_times, ["quarantine", TOPIC, "--reinject"], OTHER_FIELD),
}


def stable(text: str) -> object:
    """Without what differs from run to run: Kafka's time of bad records is that of the clock of the tree."""
    return json.loads(re.sub(r'"bytes": \d+', '"bytes": 0', text))


@pytest.mark.parametrize("name", JOBS)
def test_the_json_is_a_contract(name: str, invoke: Invoke, tmp_path: Path) -> None:
    job = JOBS[name]
    job.make(tmp_path)
    done = invoke(*job.arguments(tmp_path), "--json")
    assert done.exit_code == 0, done.output
    golden = GOLDEN / f"{name}.json"
    assert stable(done.stdout) == json.loads(golden.read_text())


@pytest.mark.parametrize("name", JOBS)
def test_begin_and_end_are_in_the_log_with_the_result(name: str, invoke: Invoke, tmp_path: Path) -> None:
    job = JOBS[name]
    job.make(tmp_path)
    lines = [json.loads(line) for line in invoke(*job.arguments(tmp_path), "--json").stderr.splitlines()]
    begin, end = lines[0], lines[-1]
    assert (begin["event"], begin["job"]) == ("job begins", job.command[0])
    assert (end["event"], end["job"]) == ("job ends", job.command[0])
    assert end["seconds"] >= 0
    assert len(end) > len(begin) or set(end) - set(begin) > {"seconds"}


# -- SIGKILL --------------------------------------------------------------------------------------


def _child(log: Connection, result: Connection, temporary: Path, arguments: Sequence[str]) -> None:
    """The command in a process of its own; its log is told, and what it ends with."""
    tempfile.tempdir = str(temporary)  # killed, it leaves there what it had
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    os.dup2(log.fileno(), 2)
    log.close()
    try:
        main(list(arguments))
    except SystemExit as end:
        result.send(end.code)


class Runner:
    """Real processes that begin at once: they are forked from one that has loaded the program, and nothing else."""

    def __init__(self, temporary: Path) -> None:
        self._temporary = temporary
        self._context = multiprocessing.get_context("forkserver")
        modules = [f"logflume.cli.{name}" for name in ("compact", "reveal", "quarantine")]
        self._context.set_forkserver_preload([*modules, __name__])

    def run(self, arguments: Sequence[str], kill_after_s: float | None = None) -> tuple[int | None, float]:
        """Exit code, negative for a signal, and seconds since it logged that it begins."""
        log, log_end = self._context.Pipe(duplex=False)
        result, result_end = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_child, args=(log_end, result_end, self._temporary, arguments))
        process.start()
        log_end.close()
        result_end.close()
        assert b"job begins" in os.read(log.fileno(), 10_000)
        began = time.monotonic()
        if kill_after_s is not None:
            process.join(kill_after_s)
            process.kill()
        process.join()
        took = time.monotonic() - began
        try:
            code = result.recv()
        except EOFError:
            code = process.exitcode
        process.close()
        return code, took


def everything(base: Path) -> dict[str, bytes]:
    root = base / "root"
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def shown(base: Path) -> dict[str, bytes]:
    """Everything but logflume's own."""
    return {path: data for path, data in everything(base).items() if not path.startswith(f"{layout.LEDGER_ROOT}/")}


@pytest.mark.parametrize("name", ["compact", "reveal", "reinject"])
def test_killed_at_any_moment_the_next_run_ends_the_same(name: str, invoke: Invoke, tmp_path: Path) -> None:
    job, runner, rng = JOBS[name], Runner(tmp_path), random.Random(7)
    original = tmp_path / "original"
    job.make(original)
    undisturbed = tmp_path / "undisturbed"
    shutil.copytree(original, undisturbed)
    code, takes = runner.run(job.arguments(undisturbed))
    assert code == 0
    before, expected = everything(original), shown(undisturbed)
    assert shown(original) != expected
    seen: Counter[str] = Counter()
    tries = 0
    while seen["killed"] < KILLS:
        tries += 1
        assert tries < 5 * KILLS, seen
        base = tmp_path / "killed"
        shutil.copytree(original, base)
        code, took = runner.run(job.arguments(base), rng.uniform(0.5, 1.2) * takes)
        if code == 0:
            # the quickest so far: by others' time, of a loaded machine, most would be through before they are killed
            takes = min(takes, took)
        else:
            assert code == -signal.SIGKILL
            seen["killed"] += 1
            seen["untouched" if everything(base) == before else "begun"] += 1
        assert invoke(*job.arguments(base)).exit_code == 0
        assert shown(base) == expected
        shutil.rmtree(base)
    print(name, dict(seen), f"{takes:.3f} s")  # noqa: T201
    assert seen["begun"] >= 3, seen
