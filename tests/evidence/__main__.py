"""``python -m tests.evidence``: crash points, simulator, mutants, real faults, real kills, and the account of all.

    python -m tests.evidence --quick           about ten minutes
    python -m tests.evidence --only faults --runs 5 --add

Writes ``evidence/evidence.json`` and ``evidence/evidence.md``; with ``--only`` the other parts stay as they were, each
with its own date and commit. ``--add``: the real faults are added to those that are there. Exit status 1 if a part
that ran was not clean.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import signal
import sys
from pathlib import Path

from tests.evidence import tables
from tests.evidence.parts import FULL, QUICK, ROOT, Sizes, added, commands, run

DIRECTORY = ROOT / "evidence"


def read(directory: Path = DIRECTORY) -> tables.Parts:
    """Part → what its last run left; {} where none was ever run."""
    found = directory / "evidence.json"
    parts: tables.Parts = json.loads(found.read_text()) if found.exists() else {}
    return parts


def write(parts: tables.Parts, directory: Path = DIRECTORY) -> None:
    directory.mkdir(exist_ok=True)
    (directory / "evidence.json").write_text(json.dumps(parts, indent=1) + "\n")
    (directory / "evidence.md").write_text(tables.page(parts))


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.evidence", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a sample of each part")
    parser.add_argument("--only", nargs="+", choices=tables.NAMES, default=[], help="only these parts")
    parser.add_argument("--add", action="store_true", help="keep the earlier runs of real faults; with --only")
    parser.add_argument("--faults", nargs="+", metavar="NAME", help="only such real faults, as tests.real --only")
    parser.add_argument("--stride", type=int, help=f"every so many crash points; default {FULL.stride}")
    parser.add_argument("--soak-s", type=float, help=f"seconds of simulator; default {FULL.soak_s:g}")
    parser.add_argument("--mutants", type=int, help="how many of them; default all")
    parser.add_argument("--runs", type=int, help=f"of each real fault; default {FULL.runs}")
    parser.add_argument("--kills", type=int, help=f"real kills; default {FULL.kills}")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    given = {field.name: getattr(asked, field.name, None) for field in dataclasses.fields(Sizes)}
    sizes = dataclasses.replace(
        QUICK if asked.quick else FULL, **{name: value for name, value in given.items() if value is not None}
    )
    if not asked.only:
        write({})  # what was not run this time must not look as if it had been
    clean = True
    for name in asked.only or tables.NAMES:
        command = commands(sizes)[name]
        if name == "faults" and asked.faults:
            command += ["--only", *asked.faults]
        part = run(command)
        clean = clean and part["exit"] == 0
        parts = read()  # another part may have been run beside this one
        parts[name] = added(parts.get(name), part) if name == "faults" and asked.add else part
        write(parts)
    return not clean


if __name__ == "__main__":
    sys.exit(main())
