"""One server as a child process: start, end, pause and restart it, and know when it is ready."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import IO

LOOPBACK = "127.0.0.1"
READY_TIMEOUT_S = 90.0  # a whole stack takes about 20 s on two idle cores; CI machines are slower
STOP_TIMEOUT_S = 20.0
REMOVE_TIMEOUT_S = 300.0  # an hour of benchmarks leaves hundreds of thousands of blocks
POLL_S = 0.1
LOG_TAIL_LINES = 30

# Returns None once the server does its work, else what it still waits for.
Probe = Callable[[], str | None]


class StartError(RuntimeError):
    """A server did not come up; the text ends with the tail of its log."""


class Reaper:
    """The parent's end of tests.stack.reaper. Thread-safe."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", str(Path(__file__).with_name("reaper.py"))],
            stdin=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )
        self._lock = threading.Lock()

    def adopt(self, pid: int) -> None:
        """Have `pid` killed if this process dies first."""
        self._send(f"+{pid}")

    def release(self, pid: int) -> None:
        """Forget `pid`, because it has ended."""
        self._send(f"-{pid}")

    def adopt_directory(self, path: Path) -> None:
        """Have `path` removed when this process is gone."""
        self._send(f"dir {path}")

    def close(self) -> None:
        """End the reaper; it cleans up whatever is still listed."""
        assert self._process.stdin is not None
        with self._lock:
            self._process.stdin.close()
        self._process.wait(timeout=REMOVE_TIMEOUT_S)

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        with self._lock:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()


class Workspace:
    """A temporary directory and the reaper that guards it and every process started in it."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="logflume-stack-"))
        self.reaper = Reaper()
        self.reaper.adopt_directory(self.path)

    def close(self) -> None:
        """Remove the directory. Every server in it must have been closed before."""
        self.reaper.close()
        shutil.rmtree(self.path, ignore_errors=True)


class Server:
    """One server process on fixed ports with its data in a directory that survives restarts.

    name     for messages and the log's file name
    command  argument vector of the server
    probe    see Probe; called every 0.1 s while starting, must return within a few seconds
    prepare  argument vector run to its end before the first start (formatting)
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        workspace: Workspace,
        probe: Probe,
        prepare: Sequence[str] | None = None,
        env: dict[str, str] | None = None,
    ) -> None:
        self.name = name
        self.log = workspace.path / f"{name}.log"
        self._command = list(command)
        self._prepare = list(prepare) if prepare else None
        self._env = {**os.environ, **(env or {})}
        self._probe = probe
        self._reaper = workspace.reaper
        self._directory = workspace.path
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False
        self._lock = threading.Lock()  # guards _process and _closed against close() while starting

    def __repr__(self) -> str:
        return f"<Server {self.name} pid={self.pid}>"

    @property
    def pid(self) -> int | None:
        """Process id, or None while the server is not running."""
        return self._process.pid if self._process is not None and self.running else None

    @property
    def running(self) -> bool:
        """Whether the process exists; true also while it is paused."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the process and return at once; StartError if it runs already or is closed."""
        if self.running:
            raise StartError(f"{self.name} is running already")
        if self._prepare is not None:
            status = self._spawn(self._prepare).wait(timeout=READY_TIMEOUT_S)
            if status != 0:
                raise StartError(f"{self.name}: preparing failed, status {status}\n{self.tail()}")
            self._prepare = None
        self._spawn(self._command)

    def wait_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Wait until the server does its work; StartError if it ends or `timeout_s` pass first."""
        deadline = time.monotonic() + timeout_s
        while True:
            if not self.running:
                status = self._process.returncode if self._process else "never started"
                raise StartError(f"{self.name} ended while starting ({status})\n{self.tail()}")
            missing = self._probe()
            if missing is None:
                return
            if time.monotonic() > deadline:
                raise StartError(f"{self.name} not ready after {timeout_s:g} s: {missing}\n{self.tail()}")
            time.sleep(POLL_S)

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """End it in good order (SIGTERM), or by SIGKILL after `timeout_s`. No-op if ended."""
        self._end(signal.SIGTERM, timeout_s)

    def kill(self) -> None:
        """End it as a crash would (SIGKILL). No-op if ended."""
        self._end(signal.SIGKILL, STOP_TIMEOUT_S)

    def pause(self) -> None:
        """Freeze it (SIGSTOP): connections stay open, nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on (SIGCONT)."""
        self._signal(signal.SIGCONT)

    def restart(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Stop it if it runs, start it on the same ports and data, and wait until it is ready."""
        self.stop()
        self.start()
        self.wait_ready(timeout_s)

    def close(self) -> None:
        """Kill it for good: a later start() fails. Safe to call from another thread."""
        with self._lock:
            self._closed = True
        self.kill()

    def tail(self, lines: int = LOG_TAIL_LINES) -> str:
        """The last lines of the log, with its path; for error messages."""
        text = self.log.read_text(errors="replace") if self.log.exists() else "(no log)"
        return f"--- {self.log}\n" + "\n".join(text.splitlines()[-lines:])

    def _spawn(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._closed:
                raise StartError(f"{self.name} is closed")
            log: IO[bytes]
            with self.log.open("ab") as log:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=self._directory,
                    env=self._env,
                    start_new_session=True,  # Ctrl-C in a terminal must reach pytest only
                )
            self._process = process
            self._reaper.adopt(process.pid)
            return process

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None or not self.running:
            raise RuntimeError(f"{self.name} is not running, cannot send {number.name}")
        self._process.send_signal(number)

    def _end(self, number: signal.Signals, timeout_s: float) -> None:
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(number)
        process.send_signal(signal.SIGCONT)  # a paused process does not see SIGTERM
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_TIMEOUT_S)
        self._reaper.release(process.pid)


def start_all(servers: Sequence[Server], timeout_s: float = READY_TIMEOUT_S) -> None:
    """Start all servers at once and wait until each is ready; on any failure close them all."""

    def bring_up(server: Server) -> None:
        server.start()
        server.wait_ready(timeout_s)

    with ThreadPoolExecutor(len(servers)) as pool, closing_on_error(servers):
        pending = [pool.submit(bring_up, server) for server in servers]
        done, _ = wait(pending, return_when=FIRST_EXCEPTION)
        for future in done:
            future.result()


@contextmanager
def closing_on_error(servers: Sequence[Server]) -> Iterator[None]:
    """Close every server if the body fails, Ctrl-C included, so that no thread waits for one."""
    try:
        yield
    except BaseException:  # Ctrl-C too: threads would go on waiting for them
        for server in servers:
            server.close()
        raise


_given_ports: set[int] = set()
_ports_lock = threading.Lock()


def free_port() -> int:
    """A free loopback port, given out once.

    Below 32768, where Linux takes the ports of outgoing connections from: otherwise some client
    could sit on the port of a server that is down for a restart. For the same reason each process of a
    pytest run (pytest-xdist) has a share of its own.
    """
    shares = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    share = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    with _ports_lock:
        for _ in range(1000):
            port = random.randrange(20_000 + share, 32_000, shares)
            if port in _given_ports:
                continue
            with socket.socket() as trial:
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    trial.bind((LOOPBACK, port))
                except OSError:
                    continue
            _given_ports.add(port)
            return port
    raise OSError("no free loopback port between 20000 and 32000")


def accepts(port: int) -> bool:
    """Whether something listens on this loopback port."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=1):
            return True
    except OSError:
        return False
