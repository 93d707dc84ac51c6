"""Calls in a process of their own."""

from __future__ import annotations

import os
import time

import pytest

from logflume.daemon.process import apart
from logflume.errors import ConfigError, LedgerError, LogflumeError, Unreachable


def double(number: int) -> int:
    return 2 * number


def fail(kind: str) -> None:
    raise {
        "config": ConfigError(["first", "second"], hint="mend both"),
        "ledger": LedgerError("damaged"),
    }[kind]


def hang() -> None:
    time.sleep(60)


def crash() -> None:
    os.abort()


def test_what_it_returns_comes_back() -> None:
    assert apart(30, double, 21) == 42


def test_an_error_of_ours_keeps_its_class_problems_and_hint() -> None:
    with pytest.raises(ConfigError, match="first; second") as caught:
        apart(30, fail, "config")
    assert (caught.value.problems, caught.value.hint) == (["first", "second"], "mend both")
    with pytest.raises(LedgerError, match="damaged") as other:
        apart(30, fail, "ledger")
    assert other.value.hint == LedgerError.hint


def test_a_call_that_hangs_is_killed_after_the_deadline() -> None:
    """N2"""
    begin = time.monotonic()
    with pytest.raises(Unreachable, match=r"no answer in 0\.5 s"):
        apart(0.5, hang)
    assert time.monotonic() - begin < 10


def test_a_client_that_takes_its_process_down_does_not_take_ours() -> None:
    with pytest.raises(LogflumeError, match="crash ended with exit code -6"):
        apart(30, crash)
