"""Every order in which a few threads can go on, for classes that threads share.

A thread may be interrupted before it takes a lock, after it has given it back, and wherever the program says so. All
orders are far too many; those in which a thread that could go on is interrupted at most twice are some hundreds, and
nearly every race needs no more (Musuvathi and Qadeer, "Iterative Context Bounding", PLDI 2007).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

from tests.sim.baton import Actor, on_one_core

PREEMPTIONS = 2


class Thread(Actor):
    def __init__(self, name: str, body: Callable[[], None]) -> None:
        super().__init__(name, body)
        self.until: Callable[[], bool] = lambda: True

    @property
    def able(self) -> bool:
        return not self.done and self.until()


class Play:
    """One order of everything: ``choices`` first, from then on whoever ran goes on as long as it can."""

    def __init__(self, choices: list[int], preemptions: int) -> None:
        self._choices, self._left = choices, preemptions
        self._threads: list[Thread] = []
        self._current: Thread | None = None
        #: for each choice that there was: which was taken, and of how many
        self.taken: list[tuple[int, int]] = []
        self.order: list[str] = []

    # -- for the program ----------------------------------------------------------------------------

    def thread(self, name: str, body: Callable[[], None]) -> None:
        self._threads.append(Thread(name, body))

    def point(self, until: Callable[[], bool] = lambda: True) -> None:
        """Others may go on here, and have to as long as not ``until``."""
        if self._current is None:  # before the threads begin, or after they have ended
            assert until()
            return
        self._current.until = until
        self._current.wait()

    def lock(self) -> Any:
        return _Lock(self)

    def pool(self) -> Any:
        return _Pool(self)

    # -- for explore --------------------------------------------------------------------------------

    def run(self) -> None:
        while not all(thread.done for thread in self._threads):
            able = [thread for thread in self._threads if thread.able]
            assert able, f"nobody can go on: {[thread.name for thread in self._threads if not thread.done]}"
            thread = self._choose(able)
            self.order.append(thread.name)
            self._current = thread
            thread.step()
        self._current = None

    def _choose(self, able: list[Thread]) -> Thread:
        interrupts = self._current in able
        if interrupts:
            able.sort(key=lambda thread: thread is not self._current)
            del able[1 if self._left == 0 else len(able) :]
        chosen = 0
        if len(able) > 1:
            at = len(self.taken)
            chosen = self._choices[at] if at < len(self._choices) else 0
            self.taken.append((chosen, len(able)))
        self._left -= interrupts and chosen > 0
        return able[chosen]


class _Lock:
    def __init__(self, play: Play) -> None:
        self._play, self._held = play, False

    def __enter__(self) -> None:
        self._play.point(lambda: not self._held)
        self._held = True

    def __exit__(self, *_: object) -> None:
        self._held = False
        self._play.point()


class _Pool(Executor):
    """As many threads as there is work."""

    def __init__(self, play: Play) -> None:
        self._play, self._submitted = play, 0

    def submit(self, call: Callable[..., Any], /, *args: Any, **named: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self._submitted += 1
        self._play.thread(f"pool {self._submitted}", lambda: future.set_result(call(*args, **named)))
        return future


def explore(program: Callable[[Play], Callable[[], None]], preemptions: int = PREEMPTIONS) -> int:
    """Run ``program`` in every such order, and what it returned when all its threads have ended; how many there were.

    Raises what a thread or that check raised, with the order in which it did.
    """
    with on_one_core():
        return _explore(program, preemptions)


def _explore(program: Callable[[Play], Callable[[], None]], preemptions: int) -> int:
    choices: list[int] = []
    orders = 0
    while True:
        play = Play(choices, preemptions)
        check = program(play)
        try:
            play.run()
            check()
        except BaseException as failure:
            failure.add_note(f"order {orders}: {' '.join(play.order)}")
            raise
        orders += 1
        left = [at for at, (chosen, of) in enumerate(play.taken) if chosen + 1 < of]
        if not left:
            return orders
        choices = [chosen for chosen, _ in play.taken[: left[-1]]] + [play.taken[left[-1]][0] + 1]
