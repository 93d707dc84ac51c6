"""One line an event on standard error, whoever logs, and no secrets in it."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from logflume import log


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Logging is global: what a test configures must not last."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    logging.getLogger("logflume").setLevel(logging.NOTSET)
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    captured = capsys.readouterr()
    assert captured.out == ""
    return [json.loads(line) for line in captured.err.splitlines()]


def test_an_event_is_one_json_line_with_utc_time_level_and_fields(capsys: pytest.CaptureFixture[str]) -> None:
    logger = log.get("logflume.daemon")  # made before configure(), as at the import of a module
    log.configure("info", "json")
    logger.info("part closed", topic="app", size_bytes=3, path="a\nb")
    (event,) = lines(capsys)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", event.pop("timestamp"))
    assert event == {
        "event": "part closed",
        "level": "info",
        "logger": "logflume.daemon",
        "topic": "app",
        "size_bytes": 3,
        "path": "a\nb",
    }


def test_the_level_holds_for_logflume_and_libraries_stay_at_warning(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log.configure("debug", "json")
    log.get("logflume.a").debug("seen")
    logging.getLogger("library").info("not seen")
    logging.getLogger("library").warning("lost %s", "it")
    assert [event["event"] for event in lines(capsys)] == ["seen", "lost it"]
    log.configure("warning", "json")
    log.get("logflume.a").info("not seen")
    log.get("logflume.a").warning("seen once")
    assert [event["event"] for event in lines(capsys)] == ["seen once"]


def test_secrets_are_masked_at_any_depth(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("info", "json")
    options = {"sasl.password": "hunter2", "client.id": "a", "nested": {"ssl.key.pem": "hunter2"}}
    log.get("logflume.a").info("configured", options=options, secret="hunter2")
    assert "hunter2" not in (err := capsys.readouterr().err)
    assert json.loads(err)["options"]["client.id"] == "a"


@pytest.mark.parametrize("fmt", ["json", "text"])
def test_a_traceback_shows_no_local_variables(fmt: log.Format, capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("info", fmt)
    password = "hunter2"
    try:
        int(f"a password of {len(password)} letters")
    except ValueError:
        log.get("logflume.a").exception("failed")
        logging.getLogger("library").exception("failed too")
    err = capsys.readouterr().err
    assert err.count("a password of 7 letters'") == 2
    assert "hunter2" not in err


def test_text_is_one_line_an_event_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("info", "text")
    log.get("logflume.a").warning("slow", seconds=3)
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(r"\d{4}-\d\d-\d\dT\S+Z \[warning", line)
    assert line.endswith("seconds=3")


def test_whoever_looks_at_a_terminal_reads_text(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    log.configure("info", "json")
    log.get("logflume.daemon").info("reading", offset=7)
    assert "{" not in terminal.getvalue()
    assert "reading" in terminal.getvalue()
