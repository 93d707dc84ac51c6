"""``python -m tests.faults``: each row of the catalogue, its tests, their kind, and how they ended.

A test names rows in its name or docstring. With ``--junit FILE`` results are taken from there
(``pytest --junitxml=FILE``); without it the tests are run. The scenarios of tests/real are not run here, they take
too long: their results are those of the last ``make evidence``.
"""

from __future__ import annotations

import argparse
import ast
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

from tests.evidence.__main__ import read as read_evidence
from tests.faults.catalogue import EXPLAINED, FAULTS, NAMED_HERE
from tests.real.catalogue import SCENARIOS

ROOT = Path(__file__).parents[2]
_ROW = re.compile(r"\b([KHZPDCN]\d{1,2})\b")
_SIMULATED = ("tests/crash/", "tests/sim/")
_REAL = (
    *("tests/e2e/", "tests/kafka/", "tests/store/", "tests/daemon/", "tests/stack/", "tests/real "),
    "tests/test_zookeeper.py",
)
#: of several results the one that counts
_WORST = ("failed", "skipped", "passed")


def kind(test: str) -> str:
    """``simulator``: the real worker over played servers; ``real``: real servers or processes; else ``core``."""
    if test.startswith(_SIMULATED):
        return "simulator"
    return "real" if test.startswith(_REAL) or test.endswith("servers.py") else "core"


def tests() -> Iterator[tuple[str, str]]:
    """Every test's id without parameters, and the text in which it may name rows."""
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                words = node.name.replace("_", " ").upper()
                yield f"{path.relative_to(ROOT)}::{node.name}", f"{words} {ast.get_docstring(node) or ''}"


def coverage() -> dict[str, list[str]]:
    """Row → tests. Raises LookupError for a table that names what is not there."""
    found: dict[str, list[str]] = defaultdict(list)
    known = dict(tests())
    for test, text in known.items():
        for row in sorted(set(_ROW.findall(text)) & FAULTS.keys()):
            found[row].append(test)
    for row, named in NAMED_HERE.items():
        if row not in FAULTS or not set(named) <= known.keys():
            raise LookupError(f"{row}: {sorted(set(named) - known.keys())} are no tests")
        found[row] += [test for test in named if test not in found[row]]
    for scenario in SCENARIOS:
        for row in scenario.rows:
            if row not in FAULTS:
                raise LookupError(f"{row}: scenario {scenario.name!r} names a row that is not there")
            found[row].append(f"tests/real {scenario.name}")
    return found


def evidence() -> dict[str, str]:
    """How each scenario ended in the last run of the evidence, the worst of its runs."""
    ended: dict[str, str] = {}
    for one in (read_evidence().get("faults") or {}).get("result") or []:
        result = "skipped" if one["explained"] else "passed" if one["ok"] else "failed"
        name = f"tests/real {one['scenario']}"
        ended[name] = min(result, ended.get(name, "passed"), key=_WORST.index)
    return ended


def results(junit: Path) -> dict[str, str]:
    """How each test ended, the worst of its parameters."""
    ended: dict[str, str] = {}
    for case in ET.parse(junit).iter("testcase"):
        test = f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name', '').split('[')[0]}"
        tags = {child.tag for child in case}
        result = "failed" if tags & {"failure", "error"} else "skipped" if "skipped" in tags else "passed"
        ended[test] = min(result, ended.get(test, "passed"), key=_WORST.index)
    return ended


def run(chosen: list[str]) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as where:
        junit = Path(where, "junit.xml")
        in_two = ("-n", "2", "--dist", "loadfile")  # as `make test` does
        command = [sys.executable, "-m", "pytest", "-q", *in_two, f"--junitxml={junit}", *chosen]
        subprocess.run(command, cwd=ROOT, stdout=sys.stderr, check=False)
        return results(junit)


def table(found: dict[str, list[str]], ended: dict[str, str]) -> str:
    lines = ["| row | fault | tests | kind | result |", "|---|---|---|---|---|"]
    for row, fault in FAULTS.items():
        named = found.get(row, [])
        names = "<br>".join(f"`{test.removeprefix('tests/')}`" for test in named) or EXPLAINED.get(row, "**none**")
        kinds = ", ".join(sorted({kind(test) for test in named})) or "–"
        result = min(
            (ended.get(test, "not run") for test in named),
            key=[*_WORST[:2], "not run", "passed"].index,
            default="explained",
        )
        lines.append(f"| {row} | {fault} | {names} | {kinds} | {result if named or row in EXPLAINED else 'open'} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--junit", type=Path, help="results of a run that was made already")
    parser.add_argument("--list", action="store_true", help="run nothing")
    asked = parser.parse_args()
    found = coverage()
    chosen = sorted({test for named in found.values() for test in named if "::" in test})
    ended = evidence() | (results(asked.junit) if asked.junit else {} if asked.list else run(chosen))
    sys.stdout.write(table(found, ended) + "\n\n")
    covered, explained = len(found), len(EXPLAINED.keys() - found.keys())
    missing = sorted(FAULTS.keys() - found.keys() - EXPLAINED.keys())
    sys.stdout.write(f"{covered} of {len(FAULTS)} rows have tests, {explained} are explained")
    sys.stdout.write(f", open: {', '.join(missing)}\n" if missing else "\n")
    failed = sorted(test for test, result in ended.items() if result == "failed")
    sys.stdout.write("".join(f"failed: {test}\n" for test in failed))
    return bool(missing or failed)


if __name__ == "__main__":
    sys.exit(main())
