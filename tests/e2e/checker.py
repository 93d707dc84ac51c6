"""The independent checker: the topic against the output tree, record by record.

It reads the topic with a consumer of its own, the files by plain HTTP, judges each record by itself
(oracle.py), and finds for every record the files it lies in by the bytes of its line. What logflume
says of itself, in ledgers and markers, is compared with that and never trusted.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import re
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

import zstandard

from tests.e2e.claims import Ledger, Ledgers, Marker, marker, read_ledgers, reference
from tests.e2e.log import Log
from tests.e2e.oracle import Boundaries, Key, Rules, Verdict, hour_of, judge
from tests.e2e.report import Report
from tests.e2e.tree import THREADS, Node, Tree, files

MARKERS = ("_SUCCESS", "_INCOMPLETE")
APPENDED = re.compile(r"ap\d{5}-\d{19}\..+")
PROBE = re.compile(r"/_probe-[0-9a-f]{32}")


@dataclass(frozen=True)
class _Place:
    kind: str
    hour: int | None
    file: str


class Checker:
    """One topic's output. ``log`` may have been read before, where the topic is gone meanwhile."""

    def __init__(self, tree: Tree, log: Log, rules: Rules) -> None:
        self.tree, self.log, self.rules = tree, log, rules
        self.report = Report(log.topic, acknowledged=len(log.records), ends=log.ends)
        self.verdicts = {key: judge(record, rules) for key, record in log.records.items()}
        self._expected: dict[Key, tuple[str, int | None]] = {}
        self._places: dict[Key, list[_Place]] = defaultdict(list)
        self._by_line: dict[bytes, list[Key]] = defaultdict(list)
        self._markers: dict[int, Marker] = {}
        self._visible: dict[int, list[Node]] = {}

    def run(self) -> Report:
        with ThreadPoolExecutor(THREADS) as pool:
            ledgers = read_ledgers(self.tree, self.log.topic, self.log.topic_id, pool)
            self._expect(ledgers.chains)
            nodes, late, quarantine = (
                self._without_probes(top, files(self.tree, top, pool))
                for top in (self.log.topic, f"_late/{self.log.topic}", f"_quarantine/{self.log.topic}")
            )
            self._sort(nodes)
            shown = [node for visible in self._visible.values() for node in visible]
            content = dict(
                zip(
                    [node.path for node in [*nodes, *late, *quarantine]],
                    pool.map(self.tree.read, [node.path for node in [*nodes, *late, *quarantine]]),
                    strict=True,
                )
            )
        self._read_markers(nodes, content)
        for node in sorted([*shown, *late], key=lambda node: node.path):
            self._read_lines(node, content[node.path])
        for node in quarantine:
            self._read_quarantine(node, content[node.path])
        self._account(ledgers)
        self._check_markers(ledgers, content)
        self._check_pieces(ledgers, [*nodes, *late, *quarantine], content)
        return self.report

    def _without_probes(self, top: str, nodes: list[Node]) -> list[Node]:
        """A start that was killed leaves its probe, hidden by its name, until a later one removes it: like uploads."""
        probes = [node.path for node in nodes if PROBE.fullmatch(node.path.removeprefix(top))]
        self.report.tmp += probes
        return [node for node in nodes if node.path not in probes]

    # -- what has to be ---------------------------------------------------------------------------

    def _expect(self, chains: Mapping[int, Ledger]) -> None:
        bounds: dict[int, Boundaries] = defaultdict(lambda: Boundaries(self.rules))
        for key in sorted(self.verdicts):
            verdict = self.verdicts[key]
            if verdict.time is not None:
                bounds[key[0]].feed(verdict.time, key[1])
        for key, verdict in self.verdicts.items():
            if verdict.time is None:
                self._expected[key] = ("quarantine", None)
                continue
            hour = hour_of(verdict.time, self.rules)
            own = bounds[key[0]].of(hour)
            ledger = chains.get(key[0])
            claimed = ledger.closing(hour + self.rules.window_ms) if ledger else None
            boundary = own
            if claimed is not None:
                boundary = claimed[0]
                where = f"{reference(key)}'s hour {name(hour)} closed at {boundary} by {claimed[1]}"
                if claimed[1] == "watermark" and boundary != own:
                    self._once(self.report.early, f"{where}, the log says {own}")
                if claimed[1] != "watermark" and own is not None and boundary > own:
                    self._once(self.report.problems, f"{where}, later than the log's {own}")
            is_late = boundary is not None and key[1] >= boundary
            self._expected[key] = ("late" if is_late else "hour", hour)
            if is_late and (own is None or key[1] < own):
                self.report.late_by_clock += 1
            self._by_line[verdict.line].append(key)

    @staticmethod
    def _once(found: list[str], text: str) -> None:
        if text.split("'s hour", 1)[-1] not in {one.split("'s hour", 1)[-1] for one in found}:
            found.append(text)

    # -- what is there ----------------------------------------------------------------------------

    def _sort(self, nodes: list[Node]) -> None:
        for node in nodes:
            hour = hour_in(node.path)
            if hour is None:
                self.report.leftovers.append(node.path)
                continue
            shown = self._visible.setdefault(hour, [])
            if not node.name.startswith(("_", ".")):
                shown.append(node)

    def _read_markers(self, nodes: list[Node], content: Mapping[str, bytes]) -> None:
        for node in nodes:
            if node.name in MARKERS:
                hour = hour_in(node.path)
                assert hour is not None
                if hour in self._markers:
                    self.report.problems.append(f"{node.path}: two markers")
                self._markers[hour] = marker(node.name, content[node.path])

    def _read_lines(self, node: Node, data: bytes) -> None:
        late = node.path.startswith("_late/") or bool(APPENDED.fullmatch(node.name))
        place = _Place("late" if late else "hour", hour_in(node.path), node.path)
        for line in lines_of(node.path, data):
            candidates = self._by_line.get(line, [])
            free = [key for key in candidates if not self._places[key]]
            fitting = [key for key in free if self._expected[key] == (place.kind, place.hour)]
            if candidates:
                self._places[(fitting or free or candidates)[0]].append(place)
            else:
                self.report.unknown.append(f"{node.path}: {line[:80]!r}")

    def _read_quarantine(self, node: Node, data: bytes) -> None:
        for line in lines_of(node.path, data):
            body = json.loads(line)
            key = body["partition"], body["offset"]
            record, verdict = self.log.records.get(key), self.verdicts.get(key)
            if record is None or verdict is None or body["topic"] != self.log.topic:
                self.report.unknown.append(f"{node.path}: {line[:80]!r}")
                continue
            self._places[key].append(_Place("quarantine", None, node.path))
            told = (unpack(body["value"]), unpack(body["key"]), body["timestamp"])
            if told != (record.value, record.key, record.kafka_ms):
                self.report.problems.append(f"{node.path}: {reference(key)} is not as it was sent")
            if body["reason"] != verdict.reason:
                self.report.problems.append(f"{reference(key)}: {body['reason']} instead of {verdict.reason}")
            reason = body["reason"]
            self.report.quarantined[reason] = self.report.quarantined.get(reason, 0) + 1

    # -- the account ------------------------------------------------------------------------------

    def _account(self, ledgers: Ledgers) -> None:
        report = self.report
        hidden = self._decided_and_hidden(ledgers)
        for key, expected in self._expected.items():
            places = self._places.get(key, [])
            chain = ledgers.chains.get(key[0])
            fates = chain.fates.get(key[1], []) if chain else []
            if len(places) > 1:
                report.repeated.append(f"{reference(key)}: {[place.file for place in places]}")
            if not places and expected[0] == "late" and self.rules.late == "drop" and fates == ["dropped"]:
                report.dropped += 1
            elif not places and (not fates or key in hidden):
                # not decided yet, or decided in an hour that is not complete
                report.pending += 1
            elif not places:
                report.lost.append(f"{reference(key)}: {expected}, decided for {fates}")
            else:
                self._account_one(key, expected, places[0])
        for key, fates in (
            (k, f) for p, c in ledgers.chains.items() for k, f in ((((p, o)), fs) for o, fs in c.fates.items())
        ):
            if key not in self.log.records and fates != ["gap"]:
                report.problems.append(f"{reference(key)} is no record of the log, and was decided as {fates}")
            elif key in self.log.records and "gap" in fates:
                report.lost.append(f"{reference(key)} was taken for a gap")

    def _account_one(self, key: Key, expected: tuple[str, int | None], place: _Place) -> None:
        report = self.report
        if (place.kind, place.hour) != expected:
            report.misplaced.append(f"{reference(key)}: {expected[0]} {name(expected[1])} lies in {place.file}")
        if place.kind == "hour":
            report.hour += 1
            report.by_partition[key[0]] = report.by_partition.get(key[0], 0) + 1
        elif place.kind == "late":
            report.late += 1

    def _decided_and_hidden(self, ledgers: Ledgers) -> set[Key]:
        """Records in parts that are decided, of hours without marker: only their partitions' parts are there."""
        return {
            (piece.partition, offset)
            for chain in ledgers.chains.values()
            for piece in chain.pieces
            if (piece.kind == "hour" or "/_ap" in piece.path) and piece.hour not in self._markers
            for offset in piece.offsets
        }

    def _check_markers(self, ledgers: Ledgers, content: Mapping[str, bytes]) -> None:
        report = self.report
        for hour, shown in sorted(self._visible.items()):
            found = self._markers.get(hour)
            if found is None:
                report.unmarked += [node.path for node in shown]
                continue
            (report.complete if found.name == "_SUCCESS" else report.incomplete).append(hour)
            if found.start != hour or found.complete != (found.name == "_SUCCESS"):
                report.early.append(f"{name(hour)}: the marker is of another hour, or contradicts its name")
            for partition, (boundary, reason) in found.boundaries.items():
                if ledgers.chains[partition].closing(hour + self.rules.window_ms) != (boundary, reason):
                    report.early.append(f"{name(hour)}: the boundary of partition {partition} is not the ledger's")
            for partition in set(ledgers.chains) - set(found.boundaries):
                # one that was added when the hour was complete, and so joined with it closed
                closing = ledgers.chains[partition].closing(hour + self.rules.window_ms)
                if closing is None or closing[1] != "joined":
                    report.early.append(f"{name(hour)}: marked without partition {partition}")
            self._check_manifest(hour, found, shown, content)
        segments = [segment for found in self._markers.values() for segment in found.segments]
        there = {(segment.partition, offset) for segment in segments for offset in segment.offsets}
        for key, (kind, at) in self._expected.items():
            found = self._markers.get(at) if at is not None and kind == "hour" else None
            if found is not None and found.complete and key not in there:
                report.early.append(f"{name(at)} was marked without {reference(key)}")

    def _check_manifest(self, hour: int, found: Marker, shown: list[Node], content: Mapping[str, bytes]) -> None:
        """The files of a marked hour are the manifest's, to the byte, and its offsets are their lines."""
        report = self.report
        mine = {node.name: node for node in shown if not APPENDED.fullmatch(node.name)}
        report.hour_files[hour] = len(mine)
        if set(mine) != set(found.files):
            report.early.append(f"{name(hour)}: files {sorted(mine)}, the marker has {sorted(found.files)}")
            return
        for file, (size, count, segments) in found.files.items():
            data = content[mine[file].path]
            if len(data) != size or sum(s.size for s in segments) != size or sum(s.count for s in segments) != count:
                report.early.append(f"{name(hour)}: {file} is not of {size} bytes and {count} records")
                continue
            at = 0
            for segment in segments:
                chunk = data[at : at + segment.size]
                at += segment.size
                if hashlib.sha256(chunk).hexdigest() != segment.sha256:
                    report.early.append(f"{name(hour)}: {file}: wrong check sum of {segment.path}")
                    continue
                lines = lines_of(file, chunk)
                keys = [(segment.partition, offset) for offset in segment.offsets]
                if segment.count != len(lines) or lines != [self._line(key) for key in keys]:
                    report.early.append(f"{name(hour)}: {file}: the lines of {segment.path} are not its offsets")

    def _line(self, key: Key) -> bytes | None:
        verdict: Verdict | None = self.verdicts.get(key)
        return None if verdict is None else verdict.line

    def _check_pieces(self, ledgers: Ledgers, nodes: list[Node], content: Mapping[str, bytes]) -> None:
        """Every part is where the ledger has it or in its hour's files, and nothing else lies around."""
        report = self.report
        report.problems += ledgers.problems
        report.tmp += ledgers.tmp
        segments = {s.path: s for found in self._markers.values() for s in found.segments}
        explained = {f"{self.log.topic}/"} | {s.path for s in segments.values()}
        early = self.rules.reveal == "early"
        for chain in ledgers.chains.values():
            report.pieces += len(chain.pieces)
            report.claims = max(report.claims, len(chain.owners))
            report.committed[chain.partition] = chain.committed
            for piece in chain.pieces:
                path = piece.path
                if piece.kind == "hour" and piece.hour in self._markers:
                    if segments.get(path) != piece:
                        report.early.append(f"{path} was decided, and the marker of its hour has it not so")
                    if not early:
                        continue
                if "/_ap" in path and path not in content and piece.hour in self._markers:
                    path = path.replace("/_ap", "/ap")
                explained.add(path)
                data = content.get(path)
                if data is None:
                    report.lost.append(f"{path} was decided and is not there")
                elif len(data) != piece.size or hashlib.sha256(data).hexdigest() != piece.sha256:
                    report.problems.append(f"{path} is not what was decided")
        tmp = {piece.tmp for chain in ledgers.chains.values() for piece in chain.pieces}
        report.lost += [f"{path} was decided and is still in tmp" for path in ledgers.tmp if path in tmp]
        report.leftovers += ledgers.plans if self._all_marked(ledgers) else []
        for node in nodes:
            hour = hour_in(node.path)
            found = self._markers.get(hour) if hour is not None and node.path.startswith(f"{self.log.topic}/") else None
            if node.name in MARKERS or (found is not None and node.name in found.files):
                continue
            if node.path not in explained or (found is not None and node.name.startswith("_")):
                report.leftovers.append(node.path)

    def _all_marked(self, ledgers: Ledgers) -> bool:
        return all(p.hour in self._markers for c in ledgers.chains.values() for p in c.pieces if p.kind == "hour")


def unpack(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


def lines_of(path: str, data: bytes) -> list[bytes]:
    """The lines of a file by its extension; the last one has to have its end, too."""
    if path.endswith(".gz"):
        data = gzip.decompress(data) if data else b""
    elif path.endswith(".zst"):
        data = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data), read_across_frames=True).read()
    lines = data.split(b"\n")
    if lines.pop() != b"":
        raise AssertionError(f"{path} does not end with a whole line")
    return lines


def hour_in(path: str) -> int | None:
    """The hour of a file's directory in any of the trees."""
    found = re.search(r"/dt=(\d{4}-\d\d-\d\d)/hour=(\d\d)(\d\d)?/[^/]+$", path)
    if found is None:
        return None
    at = datetime.strptime(f"{found[1]} {found[2]}{found[3] or '00'}", "%Y-%m-%d %H%M").replace(tzinfo=UTC)
    return int(at.timestamp()) * 1000


def name(hour: int | None) -> str:
    return "-" if hour is None else datetime.fromtimestamp(hour / 1000, UTC).strftime("%Y-%m-%dT%H:%M")


def check(tree: Tree, log: Log, rules: Rules) -> Report:
    return Checker(tree, log, rules).run()
