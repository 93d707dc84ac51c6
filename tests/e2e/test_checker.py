"""The checker has to notice: an output made by hand, right at first and then wrong in one thing after the other."""

from __future__ import annotations

import ast
import base64
import gzip
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyroaring import BitMap64

from tests.e2e import checker, claims, daemon, generate, log, oracle, report, tree, watcher
from tests.e2e.checker import check
from tests.e2e.log import Log
from tests.e2e.oracle import HOUR_MS, Record, Rules
from tests.e2e.report import Report
from tests.e2e.tree import LocalTree

TOPIC, ID = "web", "id1"
BASE = 1_759_996_800_000  # 2025-10-09T08:00Z
MINUTE = 60_000


def record(offset: int, minutes: int | None, partition: int = 0) -> Record:
    """One of so many minutes after BASE, a bad one for None."""
    at = BASE + (minutes or 0) * MINUTE
    value = b"bad" if minutes is None else json.dumps({"ts": at, "p": partition, "n": offset}).encode()
    return Record(partition, offset, value, None, at)


#: hour 0, two of them out of order, a bad one, one that closes hour 0 (lateness 10 min), and then a late one
RECORDS = [record(0, 5), record(1, 61), record(2, 59), record(3, None), record(4, 71), record(5, 20)]
HOUR_0, HOUR_1, LATE, BAD = [0, 2], [1, 4], [5], [3]


class Output:
    """A tree as logflume would leave it: hour 0 complete, hour 1 decided and hidden."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.log = Log(TOPIC, ID, {one.id: one for one in RECORDS}, {0: 6})
        first, day = "0000000000000000000", "dt=2025-10-09"
        self.hour = f"{TOPIC}/{day}/hour=08"
        self.file = f"{self.hour}/{TOPIC}-00000-of-00001.json.gz"
        self.late = f"_late/{TOPIC}/{day}/hour=08/p00000-{first[:-1]}5.json.gz"
        self.bad = f"_quarantine/{TOPIC}/{day}/hour=08/p00000-{first[:-1]}3.json.gz"
        self.open = f"{TOPIC}/{day}/hour=09/_p00000-{first[:-1]}1.json.gz"
        part = self.part("hour", 0, f"{self.hour}/_p00000-{first}.json.gz", HOUR_0)
        parts = [
            part,
            self.part("late", 0, self.late, LATE),
            self.part("quarantine", 0, self.bad, BAD),
            self.part("hour", 1, self.open, HOUR_1),
        ]
        self.write(self.file, self.lines(HOUR_0))
        for path, offsets in ((self.late, LATE), (self.open, HOUR_1), (self.bad, BAD)):
            self.write(path, self.lines(offsets))
        self.entry(0, [], [], 0)
        self.entry(1, parts, [[None, BASE, 0, "watermark", 0], [BASE, BASE + HOUR_MS, 4, "watermark", 0]], 6)
        self.manifest = {
            "start_ms": BASE,
            "complete": True,
            "partitions": {"0": {"boundary": 4, "reason": "watermark"}},
            "files": [
                {
                    "name": self.file.rsplit("/", 1)[1],
                    "bytes": len(self.lines(HOUR_0)),
                    "count": 2,
                    "segments": [{"partition": 0, **part}],
                }
            ],
        }
        self.write(f"{self.hour}/_SUCCESS", json.dumps(self.manifest).encode())

    def lines(self, offsets: list[int]) -> bytes:
        if offsets == BAD:
            value = base64.b64encode(b"bad").decode()
            rest = {"timestamp": BASE, "reason": "bad_json", "key": None, "value": value}
            rows = [json.dumps({"topic": TOPIC, "partition": 0, "offset": 3, **rest}).encode()]
        else:
            rows = [RECORDS[offset].value or b"" for offset in offsets]
        return gzip.compress(b"".join(row + b"\n" for row in rows), mtime=0)

    def part(self, kind: str, hour: int, path: str, offsets: list[int]) -> dict[str, Any]:
        data = self.lines(offsets)
        return {
            "kind": kind,
            "hour": BASE + hour * HOUR_MS,
            "path": path,
            "tmp": f"_logflume/{TOPIC}/{ID}/p00000/tmp/{offsets[0]}",
            "bytes": len(data),
            "count": len(offsets),
            "sha256": hashlib.sha256(data).hexdigest(),
            "offsets": base64.b64encode(BitMap64(offsets).serialize()).decode(),
        }

    def entry(self, seq: int, parts: list[dict[str, Any]], closed: list[list[Any]], committed: int) -> None:
        before = self.root / self.entry_path(seq - 1)
        prev = hashlib.sha256(before.read_bytes()).hexdigest() if seq else ""
        state = {"start": 0, "committed": committed, "frontier": None}
        rest = {"gaps": "", "dropped": "", "closed": closed, "owner": "me", "state": state}
        self.write(self.entry_path(seq), json.dumps({"seq": seq, "prev": prev, "parts": parts, **rest}).encode())

    @staticmethod
    def entry_path(seq: int) -> str:
        return f"_logflume/{TOPIC}/{ID}/p00000/{seq:012d}.json"

    def write(self, path: str, data: bytes) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_bytes(data)

    def move(self, source: str, target: str) -> None:
        (self.root / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(self.root / source, self.root / target)

    def remove(self, path: str) -> None:
        (self.root / path).unlink()

    def check(self) -> Report:
        return check(LocalTree(str(self.root)), self.log, Rules())


@pytest.fixture
def output(tmp_path: Path) -> Output:
    return Output(tmp_path)


def test_a_right_output_is_found_right(output: Output) -> None:
    report = output.check()
    report.clean(crashed=False, pending=True)
    assert (report.acknowledged, report.hour, report.late, report.pending) == (6, 2, 1, 2)
    assert report.quarantined == {"bad_json": 1}
    assert report.complete == [BASE]


def _shorten(output: Output) -> None:
    output.write(output.file, output.lines(HOUR_0[:1]))


def _too_early(output: Output) -> None:
    """Hour 0 was marked before offset 2 came: its line is nowhere, as if it were late and dropped."""
    output.manifest["partitions"]["0"]["boundary"] = 2  # type: ignore[index]
    output.write(f"{output.hour}/_SUCCESS", json.dumps(output.manifest).encode())


def _early_closing(output: Output) -> None:
    body = json.loads((output.root / output.entry_path(1)).read_bytes())
    body["closed"][1][2] = 2
    output.write(output.entry_path(1), json.dumps(body).encode())


def _other_hour(output: Output) -> None:
    output.move(output.late, output.late.replace("hour=08", "hour=07"))


FAULTS: dict[str, tuple[Callable[[Output], None], set[str]]] = {
    "a late file is gone": (lambda o: o.remove(o.late), {"lost"}),
    "an hour's file is short": (_shorten, {"lost", "early"}),
    "an hour's file is gone": (lambda o: o.remove(o.file), {"lost", "early"}),
    "a decided part is gone": (lambda o: o.remove(o.open), {"lost"}),
    "a line is in two trees": (lambda o: o.write(o.late + ".more.json.gz", o.lines(LATE)), {"repeated"}),
    "a file is there twice": (
        lambda o: o.write(o.file.replace("-00000-", "-00001-"), o.lines(HOUR_0)),
        {"repeated", "early"},
    ),
    "a part stays beside the file": (
        lambda o: o.write(f"{o.hour}/_p00000-0000000000000000000.json.gz", o.lines(HOUR_0)),
        {"leftovers"},
    ),
    "a file is in the next hour": (_other_hour, {"misplaced"}),
    "a record in time is late": (lambda o: o.write(o.late, o.lines([2, 5])), {"problems", "repeated"}),
    "the marker is not the ledger's": (_too_early, {"early"}),
    "the hour was closed too early": (_early_closing, {"early", "misplaced"}),
    "a line nobody sent": (lambda o: o.write(o.late, gzip.compress(b"what\n")), {"unknown"}),
    "an entry is gone": (lambda o: o.remove(o.entry_path(0)), {"problems"}),
    "an entry was touched": (lambda o: o.write(o.entry_path(0), _touched(o)), {"problems"}),
}


def _touched(output: Output) -> bytes:
    return (output.root / output.entry_path(0)).read_bytes() + b"\n"


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_found(output: Output, fault: str) -> None:
    break_it, found = FAULTS[fault]
    break_it(output)
    report = output.check()
    with pytest.raises(AssertionError):
        report.clean(crashed=True, pending=True)
    assert all(getattr(report, name) for name in found), str(report)


def test_uploads_that_no_decision_names_need_a_crash(output: Output) -> None:
    output.write(f"_logflume/{TOPIC}/{ID}/p00000/tmp/left", b"")
    report = output.check()
    report.clean(crashed=True, pending=True)
    with pytest.raises(AssertionError, match="tmp"):
        report.clean(crashed=False, pending=True)


@pytest.mark.parametrize("top", [TOPIC, f"_late/{TOPIC}", f"_quarantine/{TOPIC}"])
def test_the_probe_of_a_start_needs_a_crash_and_no_other_name_will_do(output: Output, top: str) -> None:
    output.write(f"{top}/_probe-{'0a' * 16}", b"probe")
    output.check().clean(crashed=True, pending=True)
    with pytest.raises(AssertionError, match="tmp"):
        output.check().clean(crashed=False, pending=True)
    output.write(f"{top}/_probe-x", b"probe")
    with pytest.raises(AssertionError, match="_probe-x"):
        output.check().clean(crashed=True, pending=True)


def test_a_decided_part_in_tmp_is_lost_to_readers(output: Output) -> None:
    output.move(output.open, f"_logflume/{TOPIC}/{ID}/p00000/tmp/1")
    assert output.check().lost


@pytest.mark.parametrize("module", [checker, claims, daemon, generate, log, oracle, report, tree, watcher])
def test_the_checker_shares_no_code_with_logflume(module: Any) -> None:
    source = ast.parse(Path(module.__file__).read_text())
    names = [alias.name for node in ast.walk(source) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in ast.walk(source) if isinstance(node, ast.ImportFrom)]
    assert not [one for one in names if one.split(".")[0] == "logflume"]
    # and nothing of the tests that does
    assert {one for one in names if one.startswith("tests.") and not one.startswith("tests.e2e.")} <= {
        "tests.stack.server"
    }
