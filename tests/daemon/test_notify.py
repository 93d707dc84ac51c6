"""What systemd hears, over real sockets."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from logflume.daemon.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def systemd(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[socket.socket, str]]:
    """A listening socket, and its address as the environment has it."""
    name = f"logflume-{uuid.uuid4().hex[:12]}"
    tmp_path = tmp_path_factory.mktemp("s")  # a socket's path has at most 107 bytes
    path = request.param == "path"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / name) if path else f"\0{name}")
        listening.settimeout(5)
        yield listening, str(tmp_path / name) if path else f"@{name}"


def test_fields_arrive_as_lines_of_one_message(systemd: tuple[socket.socket, str]) -> None:
    listening, address = systemd
    notifier = Notifier.of({"NOTIFY_SOCKET": address})
    notifier.tell(READY=1, STATUS="2 workers\nREADY=0")
    assert listening.recv(4096) == b"READY=1\nSTATUS=2 workers READY=0"
    notifier.close()


@pytest.mark.parametrize(
    ("pid", "usec", "expected"),
    [
        ("this", "60000000", 60.0),
        (None, "1500000", 1.5),
        ("1", "60000000", None),
        (None, "0", None),
        (None, "soon", None),
    ],
)
def test_the_watchdog_is_fed_only_where_it_is_meant_for_this_process(
    pid: str | None, usec: str, expected: float | None
) -> None:
    environment = {"NOTIFY_SOCKET": "@none", "WATCHDOG_USEC": usec}
    if pid is not None:
        environment["WATCHDOG_PID"] = str(os.getpid()) if pid == "this" else pid
    notifier = Notifier.of(environment)
    assert notifier.watchdog_s == expected
    notifier.close()


def test_without_systemd_nothing_is_told() -> None:
    notifier = Notifier.of({})
    notifier.tell(READY=1)
    notifier.close()


def test_a_systemd_that_went_away_is_no_failure(tmp_path: Path) -> None:
    notifier = Notifier.of({"NOTIFY_SOCKET": str(tmp_path / "gone")})
    notifier.tell(READY=1)
    notifier.close()


def test_a_systemd_that_does_not_listen_holds_nothing_up(systemd: tuple[socket.socket, str]) -> None:
    _, address = systemd
    notifier = Notifier.of({"NOTIFY_SOCKET": address})
    notifier.tell(STATUS="first")
    assert notifier._socket is not None
    notifier._socket.settimeout(0.001)
    for _ in range(600):  # more than the queue of a socket holds (10 by default, 512 under systemd)
        notifier.tell(STATUS="more")
    notifier.close()
