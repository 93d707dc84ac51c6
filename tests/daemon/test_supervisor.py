"""The parent with real processes: deaths, hangs, signals (P1, P2, P5, P6)."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from logflume.daemon.child import Target
from logflume.daemon.supervisor import SIGNALS, Limits, Supervisor
from logflume.errors import Refused
from tests.daemon import fakes
from tests.daemon.fakes import LIMITS, diary

PATIENCE_S = 20.0


def until(condition: Callable[[], object], what: str = "") -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def run(directory: Path, target: Target, drive: Callable[[], object], limits: Limits = LIMITS, workers: int = 1) -> int:
    """The exit code of a supervisor in this thread, while another does what a person or a fault would do; when
    that is done, it asks the supervisor to stop.
    """
    supervisor = Supervisor(fakes.config(directory, workers), target=target, limits=limits)
    failures: list[BaseException] = []

    def driver() -> None:
        try:
            drive()
        except BaseException as failure:  # the thread's failure is the test's, and the supervisor must end
            failures.append(failure)
        tell(signal.SIGTERM)

    thread = threading.Thread(target=driver)
    # for a signal that comes when the supervisor has ended by itself
    before = {number: signal.signal(number, lambda *_: None) for number in SIGNALS}
    try:
        thread.start()
        code = supervisor.run()
        thread.join()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if failures:
        raise failures[0]
    return code


def tell(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


def starts(directory: Path) -> list[list[str]]:
    return [line for line in diary(directory) if line[0] == "start"]


def times(directory: Path) -> list[float]:
    return [float(line[3]) for line in starts(directory)]


def alive(pid: int) -> bool:
    """Not a zombie either: one that was killed stays one until whoever it was given to has asked for it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def spool(directory: Path) -> list[str]:
    return sorted(path.name for path in (directory / "spool").iterdir())


# -- stopping -------------------------------------------------------------------------------------


def test_a_signal_stops_every_worker_in_order(tmp_path: Path) -> None:
    """P1"""
    assert run(tmp_path, fakes.obedient, lambda: until(lambda: len(starts(tmp_path)) == 2), workers=2) == 0
    assert sorted(line[:2] for line in diary(tmp_path)) == [
        *(["start", "0"], ["start", "1"]),
        *(["stop", "0"], ["stop", "1"]),
    ]
    assert spool(tmp_path) == ["lock"]


def test_a_worker_that_does_not_stop_is_killed_after_the_deadline(tmp_path: Path) -> None:
    limits = replace(LIMITS, stop_s=0.3, stop_margin_s=0.2)
    asked = [0.0]

    def drive() -> None:
        until(lambda: starts(tmp_path))
        asked[0] = time.monotonic()

    assert run(tmp_path, fakes.deaf, drive, limits) == 1
    assert 0.5 <= time.monotonic() - asked[0] < 3


def test_a_second_signal_kills_the_workers_at_once(tmp_path: Path) -> None:
    """P1"""
    limits = replace(LIMITS, stop_s=30.0)
    asked = [0.0]

    def drive() -> None:
        until(lambda: starts(tmp_path))
        tell(signal.SIGTERM)
        time.sleep(0.3)
        asked[0] = time.monotonic()

    assert run(tmp_path, fakes.deaf, drive, limits) == 1
    assert time.monotonic() - asked[0] < 3
    assert spool(tmp_path) == ["lock"]


def test_a_hangup_is_ignored(tmp_path: Path) -> None:
    def drive() -> None:
        until(lambda: starts(tmp_path))
        tell(signal.SIGHUP)
        time.sleep(0.3)
        assert [line[0] for line in diary(tmp_path)] == ["start"]

    assert run(tmp_path, fakes.obedient, drive) == 0


# -- workers that die or hang ---------------------------------------------------------------------


def test_a_worker_that_dies_is_replaced_after_growing_pauses_and_its_spool_goes(tmp_path: Path) -> None:
    """P2"""
    limits = replace(LIMITS, restart_first_s=0.2, restart_last_s=1.0)
    run(tmp_path, fakes.dies, lambda: until(lambda: len(starts(tmp_path)) == 3), limits)
    first, second, third = times(tmp_path)[:3]
    assert second - first >= 0.2
    assert third - second >= 0.4
    assert len({line[2] for line in starts(tmp_path)}) >= 3
    assert spool(tmp_path) == ["lock"]


def test_the_delay_doubles_up_to_a_minute_and_is_short_again_after_a_long_life() -> None:
    limits, delays = Limits(call_s=1, silence_s=1, stop_s=1), [0.0]
    for lived_s in (1, 1, 1, 1, 1, 1, 1, 1, 299, 300, 1):
        delays.append(limits.delay_s(delays[-1], lived_s))
    assert delays[1:] == [1, 2, 4, 8, 16, 32, 60, 60, 60, 1, 2]


def test_a_worker_whose_call_hangs_is_killed_and_replaced(tmp_path: Path) -> None:
    """P6"""
    run(tmp_path, fakes.hangs_in_a_call, lambda: until(lambda: len(starts(tmp_path)) == 2))
    assert not [line for line in diary(tmp_path)[:2] if line[0] == "stop"]


def test_a_worker_that_says_nothing_is_killed_and_replaced(tmp_path: Path) -> None:
    """P6"""
    # the start of a process counts too, and takes a second or three on a busy machine
    limits = replace(LIMITS, silence_s=4.0, stop_s=0.1, stop_margin_s=0.1)
    run(tmp_path, fakes.mute, lambda: until(lambda: len(starts(tmp_path)) == 2), limits)


def test_a_frozen_worker_is_killed_and_the_others_go_on(tmp_path: Path) -> None:
    """P6"""
    limits = replace(LIMITS, silence_s=5.0)

    def drive() -> None:
        until(lambda: len(starts(tmp_path)) == 2)
        os.kill(next(int(pid) for _, index, pid, _ in starts(tmp_path) if index == "0"), signal.SIGSTOP)
        until(lambda: len(starts(tmp_path)) == 3)

    assert run(tmp_path, fakes.obedient, drive, limits, workers=2) == 0
    assert sorted(line[1] for line in starts(tmp_path)) == ["0", "0", "1"]


def test_a_configuration_that_a_worker_cannot_use_ends_the_daemon(tmp_path: Path) -> None:
    supervisor = Supervisor(
        fakes.config(tmp_path, workers=2), target=fakes.the_second_cannot_use_the_configuration, limits=LIMITS
    )
    assert supervisor.run() == 2
    assert [line[0] for line in diary(tmp_path)] == ["start", "stop"]


# -- the parent -----------------------------------------------------------------------------------


@contextmanager
def parent(target: str, directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tests.daemon.fakes", target, str(directory)]
    # a session of its own: signals to its group must not reach the tests
    with subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL) as running:
        try:
            until(lambda: len(starts(directory)) == 2)
            yield running
        finally:
            running.kill()


def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    """P2"""
    with parent("deaf", tmp_path) as running:
        pids = [int(line[2]) for line in starts(tmp_path)]
        assert all(alive(pid) for pid in pids)
        running.kill()
        until(lambda: not any(alive(pid) for pid in pids), "workers outlive their parent")


def test_ctrl_c_reaches_the_whole_group_and_only_the_parent_answers(tmp_path: Path) -> None:
    with parent("obedient", tmp_path) as running:
        os.killpg(running.pid, signal.SIGINT)
        assert running.wait(PATIENCE_S) == 0
        assert len([line for line in diary(tmp_path) if line[0] == "stop"]) == 2


def test_the_parent_loads_no_client_of_kafka_or_hdfs() -> None:
    """P5"""
    text = "import sys, logflume.daemon.supervisor, logflume.preflight, logflume.cli.run\n"
    text += "print([n for n in ('confluent_kafka', 'hdfs_native', 'hdfs', 'kazoo') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "[]"


def test_a_taken_status_address_is_an_error_before_any_worker_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        config = fakes.config(tmp_path, http=f"127.0.0.1:{other.getsockname()[1]}")
        with pytest.raises(Refused, match=r"cannot listen on 127\.0\.0\.1:\d+: address already in use"):
            Supervisor(config, target=fakes.obedient, limits=LIMITS).run()
    assert diary(tmp_path) == []


def test_a_spool_that_cannot_be_made_is_an_error_before_any_worker_starts(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file")
    with pytest.raises(Refused, match="spool: "):
        Supervisor(fakes.config(tmp_path), target=fakes.obedient, limits=LIMITS).run()
    assert diary(tmp_path) == []


# -- systemd --------------------------------------------------------------------------------------


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What systemd is told, as it comes."""
    heard: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(0.1)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "300000")
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
        done = threading.Event()

        def listen() -> None:
            while not done.is_set():
                try:
                    heard.extend(listening.recv(4096).decode().splitlines())
                except TimeoutError:
                    continue

        thread = threading.Thread(target=listen)
        thread.start()
        yield heard
        done.set()
        thread.join()


def test_systemd_is_told_ready_only_when_every_worker_consumes(tmp_path: Path, systemd: list[str]) -> None:
    def drive() -> None:
        until(lambda: len(starts(tmp_path)) == 2)
        time.sleep(0.5)
        assert "READY=1" not in systemd
        (tmp_path / "claimed").touch()
        until(lambda: "READY=1" in systemd)

    assert run(tmp_path, fakes.claims, drive, workers=2) == 0
    assert [line for line in systemd if line in ("READY=1", "STOPPING=1")] == ["READY=1", "STOPPING=1"]
    assert any(line.startswith("STATUS=") and "of 2 workers" in line for line in systemd)


def test_the_watchdog_starves_while_a_worker_is_silent_and_cannot_be_replaced(
    tmp_path: Path, systemd: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A process that a SIGKILL does not end waits for a disk or a mount that hangs; none can be made here.
    monkeypatch.setattr("logflume.daemon.child.Child.hangs", lambda *args, **limits: "")
    limits = replace(LIMITS, silence_s=1.5, stop_s=0.1, stop_margin_s=0.1)

    def drive() -> None:
        until(lambda: starts(tmp_path))
        assert "WATCHDOG=1" in systemd
        time.sleep(1.7)
        systemd.clear()
        time.sleep(0.5)
        assert "WATCHDOG=1" not in systemd

    run(tmp_path, fakes.mute, drive, limits)
