"""``python -m tests.mutants [NAME…]``: apply each mutant to a copy, run what has to catch it, count."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.table import CRASH, MUTANTS, Mutant

ROOT = Path(__file__).parents[2]
#: crash points after which a mutant that did no harm has survived
BUDGET = 600
TIMEOUT_S = 300


@dataclass(frozen=True, slots=True)
class Verdict:
    mutant: Mutant
    caught: bool
    seconds: float
    why: str


def apply(mutant: Mutant, where: Path) -> None:
    """A copy of package and tests with the mutant in it. Raises LookupError unless it fits exactly once."""
    for name in ("logflume", "tests"):
        shutil.copytree(ROOT / name, where / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", where)
    path = where / "logflume" / mutant.file
    path.write_text(mutated(mutant, path.read_text()))


def mutated(mutant: Mutant, text: str) -> str:
    """The file's text with the mutant in it. Raises LookupError unless it fits exactly once."""
    for find, put in [(mutant.find, mutant.put), *([mutant.also] if mutant.also else [])]:
        if text.count(find) != 1:
            raise LookupError(f"{mutant.name}: {mutant.file} has {text.count(find)} times what is to change, not once")
        text = text.replace(find, put)
    compile(text, mutant.file, "exec")
    return text


def judge(mutant: Mutant) -> Verdict:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="logflume-mutant-") as where:
        apply(mutant, Path(where))
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", mutant.by]
        if mutant.by.startswith(CRASH):
            words = mutant.by.split()[1:]
            command = [
                sys.executable,
                "-m",
                "tests.crash",
                "--first",
                str(BUDGET),
                *(["--only", *words] if words else []),
            ]
        code, said = watched(command, Path(where))
    # a mutant that cannot run proves nothing
    broken = re.search(r"\b(NameError|UnboundLocalError|ImportError|AttributeError|SyntaxError)\b.*", said)
    why = said.splitlines()[-1] if broken is None else f"it cannot run: {broken[0]}"
    return Verdict(mutant, code == 1 and broken is None, time.monotonic() - began, why)


def watched(command: list[str], where: Path) -> tuple[int, str]:
    """Exit code, and what was said; a mutant that hangs is caught, as CI would catch it."""
    environment = {**os.environ, "PYTHONPATH": str(where), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command, cwd=where, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return 1, f"no end after {TIMEOUT_S} s"
    return done.returncode, done.stdout.strip() or done.stderr.strip() or "nothing was said"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", help="only these; default: all")
    parser.add_argument("--first", type=int, metavar="N", help="only N of them, evenly spread over the table")
    parser.add_argument("--json", type=Path, help="write the verdicts there")
    asked = parser.parse_args()
    chosen = [mutant for mutant in MUTANTS if not asked.names or mutant.name in asked.names]
    chosen = chosen[:: max(1, len(chosen) // asked.first)][: asked.first] if asked.first else chosen
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        verdicts = []
        for verdict in pool.map(judge, chosen):
            verdicts.append(verdict)
            word = "caught" if verdict.caught else "MISSED"
            show(f"{word}  {verdict.mutant.name:<38} {verdict.seconds:5.1f} s  {verdict.why[:110]}")
    caught = sum(verdict.caught for verdict in verdicts)
    for verdict in verdicts:
        if not verdict.caught:
            show(f"missed: {verdict.mutant.name} (rule: {verdict.mutant.rule})")
    show(f"mutants caught: {caught} / {len(verdicts)}")
    if asked.json is not None:
        body = [{"name": one.mutant.name, "caught": one.caught, "seconds": round(one.seconds, 1)} for one in verdicts]
        asked.json.write_text(json.dumps({"known": len(MUTANTS), "verdicts": body}, indent=1) + "\n")
    return caught != len(verdicts) or not verdicts


def show(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
