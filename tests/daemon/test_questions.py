"""Questions of many threads, and the requests that they become."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from logflume.daemon.questions import Questions, Together
from logflume.errors import LogflumeError, Stopped, Unreachable
from logflume.kafka.topics import Topic
from tests.interleave import Play, explore

WAIT_S = 10.0


class Gate:
    """A request that is under way until it is let go; answers grow, so that they tell which request they are of."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.under_way = threading.Event()
        self.go = threading.Event()

    def __call__(self, keys: list[str]) -> dict[str, int | LogflumeError]:
        self.asked.append(keys)
        self.under_way.set()
        assert self.go.wait(WAIT_S)
        if "down" in keys:
            raise Unreachable("the brokers do not answer")
        return {key: Unreachable(key) if key == "no leader" else len(self.asked) for key in keys}


def while_one_is_under_way(*later: str) -> tuple[Gate, Future[int], list[Future[int]]]:
    """A first question "a" whose request is under way, and later ones; then the request is let go."""
    gate = Gate()
    together: Together[str, int] = Together(gate)
    with ThreadPoolExecutor(len(later) + 1) as pool:
        first = pool.submit(together.one, "a")
        assert gate.under_way.wait(WAIT_S)
        rest = [pool.submit(together.one, key) for key in later]
        deadline = time.monotonic() + WAIT_S
        while together._next is None or set(together._next.keys) != set(later):
            assert time.monotonic() < deadline
            time.sleep(0.001)
        gate.go.set()
    return gate, first, rest


def test_questions_that_come_during_a_request_go_together_in_the_next_one() -> None:
    gate, first, rest = while_one_is_under_way("b", "c", "d", "e")
    assert (first.result(), [one.result() for one in rest]) == (1, [2, 2, 2, 2])
    assert [sorted(keys) for keys in gate.asked] == [["a"], ["b", "c", "d", "e"]]


def test_a_request_that_is_under_way_answers_no_later_question() -> None:
    # a claim asks for the log's end after it has read its chain: an older answer would be wrong (K9)
    gate, first, rest = while_one_is_under_way("a", "b")
    assert (first.result(), rest[0].result()) == (1, 2)
    assert len(gate.asked) == 2


def test_in_every_order_an_answer_is_of_a_request_made_after_its_question() -> None:
    def program(play: Play) -> Callable[[], None]:
        clock = itertools.count()
        answered: list[str] = []

        def ask(keys: list[str]) -> dict[str, int | LogflumeError]:
            made = next(clock)
            play.point()
            return dict.fromkeys(keys, made)

        together: Together[str, int] = Together(ask)
        together._lock, together._turn = play.lock(), play.lock()

        def question(key: str) -> None:
            came = next(clock)
            assert together.one(key) > came
            answered.append(key)

        for name in "abc":
            play.thread(name, lambda name=name: question(name))  # type: ignore[misc]  # each its own
        return lambda: None if sorted(answered) == ["a", "b", "c"] else pytest.fail(str(answered))

    assert explore(program) > 100


def test_an_error_reaches_only_whose_it_is() -> None:
    _, _, (bad, good) = while_one_is_under_way("no leader", "b")
    assert good.result() == 2
    with pytest.raises(Unreachable, match="no leader"):
        bad.result()


def test_a_request_that_fails_fails_for_all_that_are_in_it_and_not_for_the_next() -> None:
    gate = Gate()
    gate.go.set()
    together: Together[str, int] = Together(gate)
    with pytest.raises(Unreachable, match="brokers"):
        together.one("down")
    assert together.one("b") == 2


class Counted:
    """Topics that count how often they are described."""

    def __init__(self) -> None:
        self.described = 0
        self.topic_id = "one"

    def topic(self, name: str) -> Topic:
        self.described += 1
        return Topic(name, self.topic_id, [0])

    def each_start_offset(self, parts: object) -> dict[tuple[str, int], int | LogflumeError]:
        raise AssertionError(parts)

    each_end_offset = each_start_offset


def test_one_description_serves_all_that_began_before_it() -> None:
    topics = Counted()
    questions = Questions(topics)  # type: ignore[arg-type]
    began = time.monotonic()
    assert {questions.topic("app", began).topic_id for _ in range(100)} == {"one"}
    assert topics.described == 1


def test_a_topic_that_was_created_anew_is_found_by_whoever_begins_after_it() -> None:
    """K10"""
    topics = Counted()
    questions = Questions(topics)  # type: ignore[arg-type]
    questions.confirm("app", "one", time.monotonic())
    topics.topic_id = "two"
    with pytest.raises(Stopped, match="re-created"):
        questions.confirm("app", "one", time.monotonic())


def test_brokers_that_do_not_answer_are_asked_once_for_all_that_wait() -> None:
    """Each asking in its turn, the last of a dozen was taken for a call that hangs, and its worker killed."""

    class Away(Counted):
        def topic(self, name: str) -> Topic:
            self.described += 1
            time.sleep(0.1)
            raise Unreachable(f"{name}: no answer")

    topics = Away()
    questions = Questions(topics)  # type: ignore[arg-type]
    began = time.monotonic()
    with ThreadPoolExecutor(16) as pool:
        waiting = [pool.submit(questions.topic, "app", began) for _ in range(16)]
    for one in waiting:
        with pytest.raises(Unreachable, match="no answer"):
            one.result()
    assert topics.described == 1
    with pytest.raises(Unreachable, match="no answer"):
        questions.topic("app", time.monotonic())
    assert topics.described == 2
