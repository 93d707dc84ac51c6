"""What the jobs that people run by hand share: the store, a deadline, the topic's ids, lines in the log."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from logflume import commit, log
from logflume.cli import INTERRUPTED
from logflume.config import Config
from logflume.core import layout
from logflume.errors import LogflumeError, Unreachable, UsageError
from logflume.store import Store, open_store
from logflume.units import parse_duration, parse_size

logger = log.get(__name__)

Command = TypeVar("Command", bound=Callable[..., Any])

#: from Ctrl-C to the end of a process that hangs
INTERRUPT_S = 1.0


def duration(text: str) -> int:
    """An option such as ``10m``, in milliseconds."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not {error}") from None


def size(text: str) -> int:
    """An option such as ``256MiB``, in bytes."""
    try:
        return parse_size(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not {error}") from None


def hour(text: str) -> int:
    """An hour such as ``2026-11-22T07``, as the start of it in ms; minutes for windows under an hour."""
    try:
        return layout.parse_hour_name(text.replace(":", ""))
    except ValueError:
        raise click.BadParameter(f"{text!r} is not an hour such as 2026-11-22T07") from None


def deadline_of(default: str) -> Callable[[Command], Command]:
    """``--deadline`` with this default."""
    return click.option(
        "--deadline",
        type=duration,
        metavar="DURATION",
        default=default,
        show_default=True,
        help="A run that takes longer hangs in a call, and is given up.",
    )


deadline_option = deadline_of("6h")


def open_root(settings: Config, url: str | None = None, *, threads: int = 16) -> Store:
    """The store of the configuration, or that of another root with the same user and options."""
    output = settings.output
    return open_store(
        url or output.root,
        namenode_http=output.namenode_http if url is None else None,
        user=output.user,
        options=output.options,
        timeout_s=settings.daemon.call_deadline_ms / 1000,
        threads=threads,
    )


def topic_ids(store: Store, topic: str) -> list[str]:
    """The ids under which the topic has a ledger; raises UsageError where there is none."""
    ids = [topic_id for topic_id in commit.ids_of(store, topic) if commit.chains(store, topic, topic_id)]
    if not ids:
        raise UsageError(f"topic {topic} has no ledger below {store.url}", hint="'logflume status' names the topics")
    return ids


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C ends the process also while a call hangs, which Python alone would notice only when that returns.

    A job may be killed at any moment; it gets ``INTERRUPT_S`` to end in order.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    ended = threading.Event()

    def watch() -> None:
        while number := os.read(reader, 1):
            if number[0] == signal.SIGINT and not ended.wait(INTERRUPT_S):
                logger.warning("interrupted while a call hangs", hint="run the same command again")
                os._exit(INTERRUPTED)
        os.close(reader)

    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=watch, name="interrupt", daemon=True).start()
    try:
        yield
    finally:
        ended.set()
        signal.set_wakeup_fd(before)
        os.close(writer)


@contextmanager
def job(name: str, deadline_ms: int, **fields: object) -> Iterator[dict[str, object]]:
    """A line in the log at the begin and at the end, with what the caller put into the dictionary as the result.

    A call of an HDFS client may hang for ever and cannot be cancelled: after the deadline the process ends (N2).
    """

    def give_up() -> None:
        logger.error("a job gives up: a call hangs, or --deadline is too short", job=name, deadline_ms=deadline_ms)
        os._exit(Unreachable.exit_code)

    timer = threading.Timer(deadline_ms / 1000, give_up)
    timer.daemon = True
    timer.start()
    logger.info("job begins", job=name, **fields)
    began = time.monotonic()
    result: dict[str, object] = {}
    try:
        with interruptible():
            yield result
    except LogflumeError as error:
        logger.error("job failed", job=name, seconds=round(time.monotonic() - began, 3), error=str(error))
        raise
    except KeyboardInterrupt:
        hint = "run the same command again: it goes on where this one was"
        logger.warning("job interrupted", job=name, seconds=round(time.monotonic() - began, 3), hint=hint)
        raise
    finally:
        timer.cancel()
    logger.info("job ends", job=name, seconds=round(time.monotonic() - began, 3), **result)
