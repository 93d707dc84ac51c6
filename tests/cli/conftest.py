"""How tests call commands: in this process, or as people do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner, Result

from logflume import preflight
from logflume.cli import main
from logflume.status import ledger

Program = Callable[..., subprocess.CompletedProcess[str]]
Invoke = Callable[..., Result]


@pytest.fixture
def program() -> Program:
    """Run ``logflume ARGS`` as a process of its own."""

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "logflume", *args]
        return subprocess.run(command, capture_output=True, check=False, text=True, timeout=60)

    return run


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Run ``logflume ARGS`` in this process, without the child processes for calls that may hang, and soon
    tired of servers that do not answer.
    """

    def here(deadline_s: float, function: Callable[..., Any], *args: object) -> Any:
        return function(*args)

    monkeypatch.setattr("logflume.daemon.process.apart", here)
    monkeypatch.setattr("logflume.cli.status.apart", here)
    for module in (preflight, ledger):
        monkeypatch.setattr(module, "CALL_S", 1.0)

    def run(*args: str) -> Result:
        return CliRunner().invoke(main, args, catch_exceptions=False)

    return run
