"""The parent: starts the workers, replaces those that die or hang, and stops all of them in order.

It reads no record and loads no client of Kafka or HDFS, so nothing it does can hang for long; a thread that
nobody waits for speaks to ZooKeeper. Signals and reports meet in one queue, and one loop in the main thread
takes them from there.

    SIGTERM, SIGINT   stop: workers decide what they hold, within ``stop_deadline``
    a second one      kill the workers at once; nothing is lost, it is read again from Kafka
    SIGHUP            logged and ignored: the configuration is read at a start only
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from types import FrameType

from logflume.config import Config
from logflume.daemon import spooldir
from logflume.daemon.child import Child, Closed, Event, Heard, Signalled, Target, run_worker
from logflume.daemon.notify import Notifier
from logflume.errors import ConfigError, LogflumeError
from logflume.log import get
from logflume.status.figures import Figures
from logflume.status.owners import owners
from logflume.status.page import StatusServer
from logflume.zookeeper import Board

log = get(__name__)

#: exit code after an abort, or a stop that did not end in time
ABORTED = 1
TICK_S = 0.2
STATUS_EVERY_S = 5.0
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Limits:
    """How long the parent is patient, in seconds; a test has less time than an operator."""

    call_s: float
    silence_s: float
    stop_s: float
    #: a worker uses its deadline up: this is for its exit, before it is killed
    stop_margin_s: float = 5.0
    restart_first_s: float = 1.0
    restart_last_s: float = 60.0
    #: a worker that lived this long was all right, so that its successor need not wait
    proven_s: float = 300.0

    @classmethod
    def of(cls, config: Config) -> Limits:
        call_s = config.daemon.call_deadline_ms / 1000
        # a worker reports every second, but one that starts loads its clients, and a busy host is slow
        return cls(call_s=call_s, silence_s=max(30.0, call_s), stop_s=config.daemon.stop_deadline_ms / 1000)

    def delay_s(self, before_s: float, lived_s: float) -> float:
        """How long the next start waits, after a delay of ``before_s`` (0: none yet) and a life so long."""
        longer_s = 0.0 if lived_s >= self.proven_s else before_s * 2
        return min(max(longer_s, self.restart_first_s), self.restart_last_s)


@dataclass(slots=True)
class _Place:
    """A worker's number, which one process after the other may have."""

    index: int
    child: Child | None = None
    delay_s: float = 0.0
    start_at: float = 0.0


class Supervisor:
    """``Supervisor(config).run()`` from the main thread; returns the exit code of the program."""

    def __init__(self, config: Config, *, target: Target = run_worker, limits: Limits | None = None) -> None:
        self._config, self._target = config, target
        self._limits = limits or Limits.of(config)
        self._spool = Path(config.daemon.spool)
        self._events: SimpleQueue[Event] = SimpleQueue()
        self._places = [_Place(index) for index in range(config.daemon.workers)]
        self._figures = Figures(config.daemon.workers, self._limits.silence_s)
        self._notifier = Notifier.of()
        self._ready = False
        self._next_watchdog = self._next_status = 0.0
        self._stop_by: float | None = None
        self._exit_code = 0

    def run(self) -> int:
        """Until a signal, or a configuration no worker can use. Raises Refused where it cannot even start."""
        with ExitStack() as stack:
            stack.callback(self._notifier.close)
            self._sweep()
            address = self._config.daemon.http_address
            if address is not None:
                stack.enter_context(StatusServer(address, self._figures))
            stack.enter_context(self._signals())
            if self._config.daemon.zookeeper:
                host = f"{socket.gethostname()}:{os.getpid()}"
                stack.enter_context(Board(self._config.daemon.zookeeper, lambda: owners(self._figures.view(), host)))
            stack.callback(self._kill_all)
            while not (self._stopping and all(place.child is None for place in self._places)):
                self._take()
                self._look_after(time.monotonic())
                self._tell(time.monotonic())
        log.info("ended", exit_code=self._exit_code)
        return self._exit_code

    @property
    def _stopping(self) -> bool:
        return self._stop_by is not None

    # -- events -----------------------------------------------------------------------------------

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def queue(number: int, _frame: FrameType | None) -> None:
            self._events.put(Signalled(signal.Signals(number)))  # a SimpleQueue may be used in a handler

        before = {number: signal.signal(number, queue) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _take(self) -> None:
        """Everything that has come, waiting a moment for a first event. All of it before any worker is
        judged: if this process was frozen for a while, what they said meanwhile waits here.
        """
        wait_s = TICK_S
        while True:
            try:
                event = self._events.get(timeout=wait_s)
            except Empty:
                return
            wait_s = 0.0
            match event:
                case Signalled(number):
                    self._signalled(number)
                case Heard(child, report) if self._places[child.index].child is child:
                    child.take(report)
                    self._figures.heard(report)
                case Closed(child):
                    child.take_closed()

    def _signalled(self, number: signal.Signals) -> None:
        if number is signal.SIGHUP:
            log.warning("SIGHUP ignored: the configuration is read at a start only; restart to change it")
        elif self._stopping:
            log.warning("second signal: workers are killed", signal=number.name)
            self._exit_code = self._exit_code or ABORTED
            self._kill_children()
        else:
            log.info("stopping", signal=number.name, deadline_s=self._limits.stop_s)
            self._stop(0)

    def _stop(self, exit_code: int) -> None:
        self._exit_code = exit_code
        self._stop_by = time.monotonic() + self._limits.stop_s + self._limits.stop_margin_s
        self._notifier.tell(STOPPING=1, STATUS="stopping")
        for place in self._places:
            if place.child is not None:
                place.child.stop(self._limits.stop_s)

    # -- workers ----------------------------------------------------------------------------------

    def _look_after(self, now: float) -> None:
        for place in self._places:
            if place.child is None:
                if not self._stopping and now >= place.start_at:
                    self._start(place)
            elif place.child.exit_code is not None:
                self._ended(place, place.child)
            else:
                self._kill_if_hung(place.child, now)
        if self._stop_by is not None and now >= self._stop_by:
            late = [place.index for place in self._places if place.child and not place.child.killed]
            if late:
                log.warning("workers did not stop in time and are killed", workers=late)
                self._kill_children()

    def _start(self, place: _Place) -> None:
        try:
            place.child = Child(self._target, self._config, place.index, self._events)
        except (OSError, LogflumeError) as error:
            # no process, no memory, no space: others may still work, and it may pass
            log.warning("worker cannot be started", worker=place.index, error=str(error))
            self._put_off(place, 0.0)
            return
        self._figures.started(place.index)
        log.info("worker started", worker=place.index, pid=place.child.pid)

    def _kill_if_hung(self, child: Child, now: float) -> None:
        why = child.hangs(now, call_s=self._limits.call_s, silence_s=self._limits.silence_s)
        if why and not child.killed:
            log.error("worker hangs and is killed", worker=child.index, pid=child.pid, why=why)
            child.kill()

    def _ended(self, place: _Place, child: Child) -> None:
        code = child.exit_code or 0
        child.bury()
        place.child = None
        self._figures.ended(place.index)
        if self._stopping:
            log.info("worker ended", worker=place.index, exit=_name(code))
            if code != 0:
                self._exit_code = self._exit_code or ABORTED
        elif code == ConfigError.exit_code:
            log.error("worker cannot use the configuration, so nothing is started again", worker=place.index)
            self._stop(code)
        else:
            self._put_off(place, time.monotonic() - child.started)
            log.error("worker died", worker=place.index, exit=_name(code), restart_in_s=place.delay_s)
        try:
            self._sweep()
        except LogflumeError as error:
            log.warning("spool was not tidied", error=str(error))

    def _put_off(self, place: _Place, lived_s: float) -> None:
        place.delay_s = self._limits.delay_s(place.delay_s, lived_s)
        place.start_at = time.monotonic() + place.delay_s

    def _sweep(self) -> None:
        removed = spooldir.sweep(self._spool)
        if removed:
            log.info("spool of workers that are gone removed", directories=[path.name for path in removed])

    def _kill_children(self) -> None:
        for place in self._places:
            if place.child is not None:
                place.child.kill()

    def _kill_all(self) -> None:
        """On the way out, however: after a stop nobody is left, and after an exception nobody may stay."""
        self._kill_children()
        for place in self._places:
            if place.child is not None:
                place.child.bury()

    # -- systemd ----------------------------------------------------------------------------------

    def _tell(self, now: float) -> None:
        children = [place.child for place in self._places]
        if not self._ready and not self._stopping:
            self._ready = all(child and child.report and child.report.consuming for child in children)
            if self._ready:
                log.info("ready", workers=len(children))
                self._notifier.tell(READY=1)
        # one that waits for its restart is looked after; one that neither reports nor dies is not
        alive = all(child is None or now - child.heard <= self._limits.silence_s for child in children)
        if self._notifier.watchdog_s is not None and alive and now >= self._next_watchdog:
            self._next_watchdog = now + self._notifier.watchdog_s / 3
            self._notifier.tell(WATCHDOG=1)
        if now >= self._next_status and not self._stopping:
            self._next_status = now + STATUS_EVERY_S
            self._notifier.tell(STATUS=self._status_line())

    def _status_line(self) -> str:
        partitions = self._figures.view().partitions
        stopped = [f"{one.topic}/{one.partition}" for one in partitions if one.error]
        running = sum(place.child is not None for place in self._places)
        line = f"{running} of {len(self._places)} workers, {len(partitions)} partitions"
        return f"{line}, in trouble: {', '.join(stopped[:5])}" if stopped else line


def _name(code: int) -> str:
    if code >= 0:
        return f"code {code}"
    names = {number.value: number.name for number in signal.Signals}
    return names.get(-code, f"signal {-code}")
