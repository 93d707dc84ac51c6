"""The parts of the evidence: each is a program of its own that leaves its figures in a JSON file."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import machine

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Sizes:
    """How much of each part is run."""

    stride: int  # every so many crash points
    soak_s: float
    mutants: int | None  # None: all
    runs: int  # of each real fault
    few_faults: bool
    kills: int


FULL = Sizes(stride=1, soak_s=900.0, mutants=None, runs=1, few_faults=False, kills=60)
QUICK = Sizes(stride=20, soak_s=60.0, mutants=6, runs=1, few_faults=True, kills=6)

#: a part that takes longer hangs: two hours is several times what the largest takes by default
TIMEOUT_S = 7200.0


def commands(sizes: Sizes) -> dict[str, list[str]]:
    """Part → the module and its arguments."""
    return {
        "crash": ["tests.crash", "--stride", str(sizes.stride)],
        "simulator": ["tests.sim", "--seconds", f"{sizes.soak_s:g}"],
        "mutants": ["tests.mutants", *(["--first", str(sizes.mutants)] if sizes.mutants is not None else [])],
        "faults": ["tests.real", "--runs", str(sizes.runs), *(["--quick"] if sizes.few_faults else [])],
        "kills": ["tests.real.kills", "--sample", str(sizes.kills)],
    }


def run(command: list[str]) -> dict[str, Any]:
    """Run a part; what it left, when and on what. ``result`` is None where it left nothing."""
    before, began = machine.describe(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="logflume-evidence-") as folder:
        left = Path(folder, "part.json")
        code = ended(subprocess.Popen([sys.executable, "-m", *command, "--json", str(left)], cwd=ROOT))
        result = json.loads(left.read_text()) if left.exists() else None
    return {
        "command": f"python -m {' '.join(command)}",
        "exit": code,
        "seconds": round(time.monotonic() - began),
        "machine": before,
        "commits": [before["commit"]],
        "result": result,
    }


def added(before: dict[str, Any] | None, now: dict[str, Any]) -> dict[str, Any]:
    """The runs of both, where both have any: each real fault counts for itself, whenever it was."""
    if before is None or before["result"] is None or now["result"] is None:
        return now
    return {
        **now,
        "exit": before["exit"] or now["exit"],
        "seconds": before["seconds"] + now["seconds"],
        "commits": [*before["commits"], *(one for one in now["commits"] if one not in before["commits"])],
        "result": before["result"] + now["result"],
    }


def ended(process: subprocess.Popen[bytes]) -> int:
    """Its exit code. Whatever ends the waiting, SIGTERM ends the part, so that no server is left."""
    try:
        return process.wait(TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.terminate()
        return process.wait(120)
    except BaseException:  # Ctrl-C too: its servers would go on
        process.terminate()
        process.wait(120)
        raise
