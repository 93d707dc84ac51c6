"""One process of the daemon: the real Worker over played threads, clients and clocks."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Self, TypeVar
from unittest import mock

import structlog

from logflume.config import Config
from logflume.daemon import finisher, slot, worker
from logflume.daemon.report import Stop
from logflume.kafka.events import TopicPart
from logflume.spool.encoders import Encoder, encoder
from logflume.store import local
from logflume.store.local import LocalStore
from tests.sim.baton import Actor, Killed, on_one_core
from tests.sim.gates import Effect, GatedStore
from tests.sim.world import Broker, Clock, FakeSource, FakeTopics

Answer = TypeVar("Answer")


class Later:
    """An executor for the spool: submitted work is done when ``run`` is called, by the owner's thread."""

    def __init__(self, *_: object, **__: object) -> None:
        self._todo: list[Callable[[], object]] = []
        self.ended = False

    def submit(self, call: Callable[..., object], *args: object) -> Future[object]:
        self._todo.append(lambda: call(*args))
        return Future()

    def map(self, call: Callable[[Any], Answer], *columns: Iterable[Any]) -> Iterator[Answer]:
        """At once, and all of it, as a pool would: the first failure shows only when the rest is done."""
        answers: list[Answer] = []
        failure: Exception | None = None
        for row in zip(*columns, strict=True):
            try:
                answers.append(call(*row))
            except Exception as error:  # a pool's thread keeps anything for the caller
                failure = failure or error
        if failure is not None:
            raise failure
        return iter(answers)

    def run(self) -> None:
        while self._todo:
            self._todo.pop(0)()

    def shutdown(self, **_: object) -> None:
        """No threads to end."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.ended = True


class LaterCalls:
    """``Calls`` whose calls are run by ``settle``, one after the other: reading goes on until then."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._todo: list[tuple[Callable[[], Any], Callable[[Any], None]]] = []

    def submit(self, name: str, call: Callable[[], Any], then: Callable[[Any], None], *, ahead: bool = False) -> None:
        self._todo.append((call, then))

    def settle(self, wait_s: float = 0.0) -> int:
        self._host.encode_all()
        if not self._todo and wait_s:
            self._host.turn()
            self._host.clock.pass_s(wait_s)
        settled = 0
        todo, self._todo = self._todo, []
        for call, then in todo:
            then(call())
            settled += 1
        return settled

    def progress(self, name: str) -> None:
        """Nothing hangs here."""

    def oldest(self) -> tuple[float, str]:
        return 0.0, ""

    def close(self) -> None:
        self._todo.clear()


class Threads(LaterCalls):
    """``Calls`` whose calls are actors of their own: the worker goes on while they run, hang or fail."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self.running: list[tuple[Actor, list[Any], Callable[[Any], None]]] = []

    def submit(self, name: str, call: Callable[[], Any], then: Callable[[Any], None], *, ahead: bool = False) -> None:
        answer: list[Any] = []

        def body() -> None:
            _HERE.host, _HERE.actor = self._host, actor
            self._host.encode_all()
            answer.append(call())

        actor = Actor(name, body)
        self.running.append((actor, answer, then))

    def settle(self, wait_s: float = 0.0) -> int:
        self._host.encode_all()
        ended = [one for one in self.running if one[0].done]
        if not ended and wait_s:
            self._host.turn()
            self._host.clock.pass_s(wait_s)
        self.running = [one for one in self.running if one not in ended]
        for _, answer, then in ended:
            then(answer[0])
        return len(ended)

    def close(self) -> None:
        for actor, _, _ in self.running:
            actor.doomed = True


class Conn:
    """The pipe to a parent that only ever says stop."""

    def __init__(self) -> None:
        self.said: list[Stop] = []

    def poll(self) -> bool:
        return bool(self.said)

    def recv(self) -> Stop:
        return self.said.pop()

    def send(self, message: object) -> None:
        """Nobody listens."""

    def close(self) -> None:
        """Nothing is open."""


class Host(Actor):
    """A process: ``step`` runs it from one poll to the next, or to an effect at which it was told to wait."""

    def __init__(self, name: str, config: Config, store: LocalStore, broker: Broker, clock: Clock, spool: Path) -> None:
        super().__init__(name, self._work)
        self.config, self.broker, self.clock = config, broker, clock
        self.store = GatedStore(store, self.gate)
        self.conn = Conn()
        self.held = False
        #: whether calls to the store run beside the worker
        self.threads = False
        self.calls: LaterCalls | None = None
        self.skew_ms = 0
        self.worker: worker.Worker | None = None
        self.stopped = False
        self.effects = 0
        #: what to do at an effect; the default is to do it
        self.order: Callable[[int, Effect, Callable[[], Any]], Any] = lambda _number, _effect, do: do()
        #: sees every effect that really happens
        self.watch: Callable[[Effect, Callable[[], Any]], Any] = lambda _effect, do: do()
        #: instead of waiting at each poll: nobody else is there to go on
        self.alone: Callable[[], None] | None = None
        self.owner_name: str | None = None
        self._spool = spool
        self._pools: list[Later] = []
        self._wanted: list[TopicPart] = []
        self.source: FakeSource | None = None

    # -- the process ------------------------------------------------------------------------------

    def _work(self) -> None:
        _HERE.host = _HERE.actor = self
        self.worker = made = worker.Worker(self.config, 0, self._spool, self.conn)  # type: ignore[arg-type]  # played
        if self.owner_name is not None:
            made._tools.owner_name = self.owner_name
        try:
            made.run()
        finally:
            shutil.rmtree(self._spool, ignore_errors=True)

    def make_source(self, on_revoke: Callable[..., None], on_lost: Callable[..., None]) -> FakeSource:
        self.source = FakeSource(self.broker, self.clock, self, on_revoke, on_lost)
        self.source.assign(self._wanted)
        return self.source

    def make_calls(self) -> LaterCalls:
        self.calls = Threads(self) if self.threads else LaterCalls(self)
        return self.calls

    def make_pool(self) -> Later:
        self._pools = [pool for pool in self._pools if not pool.ended] + [Later()]
        return self._pools[-1]

    def encode_all(self) -> None:
        for pool in self._pools:
            pool.run()

    def make_encoder(self, compression: str) -> Encoder:
        encode = encoder(compression)
        return lambda lines: self.gate(Effect("spool", "", True), lambda: encode(lines))

    # -- told by the test ---------------------------------------------------------------------------

    def assign(self, parts: list[TopicPart]) -> None:
        if self.source is None:
            self._wanted = parts
        else:
            self.source.assign(parts)

    def stop(self) -> None:
        self.conn.said = [Stop(1e9)]
        self.stopped = True

    # -- what it does -----------------------------------------------------------------------------

    def gate(self, effect: Effect, do: Callable[[], Any]) -> Any:
        if self.doomed:
            raise Killed
        number, self.effects = self.effects, self.effects + 1
        return self.order(number, effect, lambda: self.watch(effect, do))

    def effect(self, call: str, path: str, do: Callable[[], None]) -> None:
        self.gate(Effect(call, path, True), do)

    @property
    def runs(self) -> bool:
        """Neither at its end nor held at an effect."""
        return not self.done and not self.held

    def hold(self) -> None:
        """From inside: wait here until somebody lets go, while others run."""
        self.held = True
        self.wait()

    def turn(self) -> None:
        if self.alone is None:
            self.wait()
        else:
            self.alone()

    def actors(self) -> list[Actor]:
        """Its own thread and those of its calls, where there are any, that can go on."""
        calls = [actor for actor, _, _ in self.calls.running] if isinstance(self.calls, Threads) else []
        return [actor for actor in [self, *calls] if not actor.done]

    def end_all(self) -> None:
        """SIGKILL for everything that runs in it."""
        self.doomed = True
        for actor in reversed(self.actors()):
            actor.kill()
        self.kill()

    def die(self) -> None:
        """From inside: SIGKILL, here and now."""
        self.doomed = True
        raise Killed


_HERE = threading.local()


def _host() -> Host:
    """The one whose thread this is: constructors of the daemon take no factories."""
    host: Host = _HERE.host
    return host


def here() -> Actor:
    """The thread that runs."""
    actor: Actor = _HERE.actor
    return actor


def _no_sync(_: object) -> None:
    """No Mock, which keeps every call: gigabytes in a quarter of an hour."""


@contextmanager
def played(clock: Clock, *, quietly: bool = True) -> Iterator[None]:
    """The daemon's modules with this clock instead of time, and with hosts' parts instead of threads and clients."""

    def source(_options: object, _names: object, *, on_revoke: Any, on_lost: Any, **_: object) -> FakeSource:
        return _host().make_source(on_revoke, on_lost)

    clock.skew_ms = lambda: _host().skew_ms
    with (
        on_one_core(),
        mock.patch.multiple(
            worker,
            time=clock,
            open_store=lambda *_, **__: _host().store,
            Source=source,
            Topics=lambda _options: FakeTopics(_host().broker),
            Calls=lambda _threads: _host().make_calls(),
            ThreadPoolExecutor=lambda *_, **__: _host().make_pool(),
            give_back=lambda: None,  # real milliseconds, for each played minute
        ),
        mock.patch.multiple(slot, time=clock, encoder=lambda name: _host().make_encoder(name), random=Highest),
        # so few that a partition that waits leaves the others' ledgers unread
        mock.patch.multiple(finisher, time=clock, HELD=12),
        # nothing here loses power, and a system call is the dearest step of all
        mock.patch.object(local, "_sync_dir", _no_sync),
        mock.patch("os.fsync", _no_sync),
        quiet() if quietly else nullcontext(),
    ):
        yield


class Highest:
    """Stands in for ``random``: old entries are looked for as late as may be."""

    @staticmethod
    def uniform(_low: float, high: float) -> float:
        return high


@contextmanager
def quiet() -> Iterator[None]:
    """The daemon's complaints are part of the game."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**before)
