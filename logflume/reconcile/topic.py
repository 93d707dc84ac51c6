"""All that is checked of one topic: its chains, its hours, its late and quarantine trees.

First everything is looked at once, a stretch of time at a time. What is not as it should be is looked at
again, after the chains were read to their new ends: beside a running daemon a part may be on its way, and
only what stays the same is a finding.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field

from logflume.compact.record import Record
from logflume.config import TopicConfig
from logflume.core import layout
from logflume.core.ledger import Part
from logflume.finish.plan import File, Plan
from logflume.model import DAY_MS, Kind
from logflume.quarantine import reinject
from logflume.reconcile import compacted, deep
from logflume.reconcile.chain import Decided
from logflume.reconcile.findings import Finding, What, persisting
from logflume.reconcile.look import look_at, look_at_directory
from logflume.reconcile.plan import Hour, Look, Verdict, check, check_alone
from logflume.reconcile.walk import SavedChain, SavedTopic, TopicWalk
from logflume.store.base import Store

#: looks at what is not as it should be, and the pause before each, in seconds
LOOKS, PAUSE_S = 3, 0.7


@dataclass(frozen=True, slots=True)
class Options:
    """How much is looked at, and with how much patience; times in ms."""

    full: bool = False
    deep: bool = False
    repair: bool = False
    patience_ms: int = 600_000
    grace_ms: int = DAY_MS
    since_ms: int | None = None


@dataclass(slots=True)
class Figures:
    """What was looked at, for people and metrics. ``gone``: hours from before proof begins without any file."""

    partitions: int = 0
    entries: int = 0
    hours: int = 0
    complete: int = 0
    incomplete: int = 0
    open: int = 0
    gone: int = 0
    offsets: int = 0
    files: int = 0
    bytes: int = 0
    records: int = 0


@dataclass(slots=True)
class _Open:
    """An hour that is not settled yet."""

    walk: TopicWalk
    findings: tuple[Finding, ...] = ()
    due: bool = False


@dataclass(frozen=True, slots=True)
class _Extra:
    """A file that looks like an appended part; all chains together can tell whose it is."""

    walk: TopicWalk
    hour: int
    name: str
    marked: bool


@dataclass(slots=True)
class TopicCheck:
    """One topic in all its ids."""

    store: Store
    topic: str
    walks: list[TopicWalk]
    config: TopicConfig | None
    options: Options
    pool: Executor
    now_ms: int
    figures: Figures = field(default_factory=Figures)
    open: dict[tuple[str, int], _Open] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    _until: dict[str, int] = field(default_factory=dict)
    _extras: list[_Extra] = field(default_factory=list)
    _known: dict[str, set[str]] = field(default_factory=dict)
    _directories: set[str] = field(default_factory=set)
    _seen: set[int] = field(default_factory=set)
    _watch: tuple[str, ...] = ()

    @property
    def settled_ms(self) -> int:
        return self.now_ms - self.options.patience_ms

    def run(self) -> None:
        """Everything; afterwards ``findings`` has what stayed the same, and ``open`` the hours not settled."""
        for walk in self.walks:
            self._walk(walk)
        suspects = self._rest()
        for _ in range(LOOKS - 1):
            if not suspects:
                break
            time.sleep(PAUSE_S)
            waiting = self._due_hours()
            for walk in self.walks:
                walk.refresh()
            suspects = persisting(suspects, self._rest())
            suspects = self._without_progress(suspects, waiting)
        self.findings = [finding for walk in self.walks for finding in walk.findings]
        self.findings += [
            finding for walk in self.walks for chain in walk.chains.values() for finding in chain.findings
        ]
        self.findings += suspects
        self._keep(suspects)
        self.findings += self._unknown_files()
        self._count()

    # -- a stretch of hours -----------------------------------------------------------------------

    def _walk(self, walk: TopicWalk) -> None:
        walk.open()
        for hour in walk.saved.hours if walk.saved else ():
            self.open[walk.topic_id, hour] = _Open(walk)
        for closed in walk.stretches():
            hours = self._hours_until(walk, closed)
            verdicts = self._look_at(walk, hours)
            for hour, verdict in verdicts.items():
                if not self._settle(walk, hour, verdict):
                    self.open[walk.topic_id, hour] = _Open(walk)
            if closed is not None:
                kept = [hour + walk.window_ms for topic_id, hour in self.open if topic_id == walk.topic_id]
                for chain in walk.chains.values():
                    chain.forget_closings(closed, kept)
            self._look_at_others(walk)

    def _settle(self, walk: TopicWalk, hour: int, verdict: Verdict) -> bool:
        """Whether an hour is as it has to be, for good; then its parts are forgotten."""
        if verdict.findings or not (verdict.marked or verdict.gone):
            return False
        for chain in walk.chains.values():
            chain.forget([hour])
        figures, manifest = self.figures, verdict.manifest
        figures.hours += 1
        if manifest is None:
            figures.gone += 1
            return True
        figures.complete += not manifest.incomplete
        figures.incomplete += bool(manifest.incomplete)
        figures.files += len(manifest.files)
        figures.bytes += sum(file.size for file in manifest.files)
        return True

    def _hours_until(self, walk: TopicWalk, closed: int | None) -> list[int]:
        """Hours that are closed and were not looked at yet."""
        first, window = walk.first_hour, walk.window_ms
        if closed is None or first is None:
            return []
        begin = self._until.get(walk.topic_id)
        if begin is None:
            saved = walk.saved.until if walk.saved else None
            begin = first if saved is None else saved
            if self.options.since_ms is not None:
                begin = max(begin, self.options.since_ms - self.options.since_ms % window)
        self._until[walk.topic_id] = max(begin, closed)
        return [hour for hour in range(begin, closed, window) if (walk.topic_id, hour) not in self.open]

    def _look_at(self, walk: TopicWalk, hours: Iterable[int]) -> dict[int, Verdict]:
        wanted = [walk.hour(hour) for hour in hours]
        return dict(
            zip(
                [hour.hour for hour in wanted], self.pool.map(lambda hour: self._judge(walk, hour), wanted), strict=True
            )
        )

    def _judge(self, walk: TopicWalk, hour: Hour) -> Verdict:
        look = look_at(self.store, hour)
        begun = self._compaction_begun(hour, look)
        if begun is not None:
            return begun
        verdict = check(hour, look, settled_ms=self.settled_ms)
        findings = list(verdict.findings)
        for name in verdict.extra:
            parsed = layout.parse_part_name(name)
            if parsed is not None and parsed.appended:
                self._extras.append(_Extra(walk, hour.hour, name, verdict.marked))
            elif self._is_compacted(hour.directory, name, whole_hour=True):
                continue
            elif parsed is None or verdict.marked or not hour.unknown(parsed.partition, parsed.first):
                findings.append(hour.finding(What.FILE_UNKNOWN, f"{hour.directory}/{name}", "no decision names it"))
        if self.options.deep and not findings:
            findings += self._read_hour(hour, look, verdict.manifest)
        self._seen.add(hour.hour)
        return Verdict(tuple(findings), verdict.manifest, gone=verdict.gone)

    # -- late and quarantined parts ---------------------------------------------------------------

    def _look_at_others(self, walk: TopicWalk) -> list[Finding]:
        """Each of them in its directory; those that are right need not be looked at again."""
        by_directory: dict[str, list[Decided]] = {}
        for chain in walk.chains.values():
            for one in chain.others:
                directory, name = one.part.path.rsplit("/", 1)
                by_directory.setdefault(directory, []).append(one)
                self._known.setdefault(directory, set()).update((name, name.removeprefix("_")))
                self._directories.add(directory)
        found, wrong = [], set()
        for findings, paths in self.pool.map(self._look_at_directory, by_directory.items()):
            found += findings
            wrong |= paths
        for chain in walk.chains.values():
            chain.others = [one for one in chain.others if one.part.path in wrong]
        return found

    def _look_at_directory(self, item: tuple[str, list[Decided]]) -> tuple[list[Finding], set[str]]:
        directory, decided = item
        found, wrong, merged = [], set(), list[File]()

        def unfold(look: Look) -> None:
            for record in self._compactions(directory, look.files):
                found.extend(self._left(record, look))
                merged.extend(compacted.unfold(record, look))

        look = look_at_directory(self.store, directory, decided, unfold)
        inside = {part.path for file in merged for part in file.parts}
        for file in merged if self.options.deep else ():
            found += self._read(self._finding_of(decided[0]), f"{directory}/{file.name}", file.parts, {})
        if found:
            # it is the whole directory's, so all of it is looked at again
            wrong = {one.part.path for one in decided}
        for one in decided:
            problems = list(check_alone(self._finding_of(one), look, one, self.settled_ms))
            in_tmp = one.part.tmp in look.in_tmp
            if self.options.deep and not problems and not in_tmp and one.part.path not in inside:
                shown = one.part.path if one.name in look.files else f"{directory}/{one.name[1:]}"
                problems = self._read(self._finding_of(one), shown, [one.part], {one.part.path: one.config})
            if problems or in_tmp:
                wrong.add(one.part.path)
            found += problems
        return found, wrong

    # -- compactions ------------------------------------------------------------------------------

    def _compactions(self, directory: str, names: Iterable[str], *, whole_hour: bool = False) -> list[Record]:
        """The records that explain files of these names; no call where none looks like a compaction's."""
        if not compacted.concerns(names):
            return []
        ids, window = [walk.topic_id for walk in self.walks], self.walks[0].window_ms
        place = compacted.place_of(directory, hour=whole_hour)
        return compacted.newest(self.store, self.topic, ids, directory, place, window)

    def _is_compacted(self, directory: str, name: str, *, whole_hour: bool = False) -> bool:
        found = self._compactions(directory, [name])
        if whole_hour:
            found += self._compactions(directory, [name], whole_hour=True)
        return compacted.is_explained(name, found)

    def _is_reinjected(self, name: str) -> bool:
        """A late file with records that are in the quarantine, too: a record says that it has to be so."""
        return layout.parse_reinjected_name(name) is not None and any(
            reinject.explains(reinject.newest(self.store, self.topic, walk.topic_id), name) for walk in self.walks
        )

    def _left(self, record: Record, look: Look) -> list[Finding]:
        """A run that is at it just now is none."""
        if record.at > self.settled_ms or not compacted.is_left(record, dict(look.files)):
            return []
        spot = record.spot
        detail = f"of {spot.directory}; the next 'logflume compact' completes it, too"
        path = spot.path(record.number)
        return [Finding(What.COMPACTION_LEFT, self.topic, path, detail, spot.topic_id, hour=spot.name)]

    def _compaction_begun(self, hour: Hour, look: Look) -> Verdict | None:
        """While an hour is compacted it has no marker, and its record and plan say where everything is."""
        if look.marker is not None:
            return None
        names = [*look.files, *compacted.planned(look)]
        found = [
            record
            for record in self._compactions(hour.directory, names, whole_hour=True)
            if record.spot.topic_id == hour.topic_id
        ]
        return Verdict(tuple(self._left(found[0], look))) if found else None

    def _finding_of(self, one: Decided) -> _Finder:
        return _Finder(self.topic, one)

    # -- what is left -----------------------------------------------------------------------------

    def _rest(self) -> list[Finding]:
        """Look at everything that is not settled, the hours still open among it."""
        found: list[Finding] = []
        self._extras, extras = [], self._extras
        for walk in self.walks:
            window = walk.window_ms
            hours = {hour for chain in walk.chains.values() for hour in chain.parts}
            hours |= {hour for topic_id, hour in self.open if topic_id == walk.topic_id}
            hours |= set(self._hours_until(walk, walk.closed_until)) | set(walk.hours_begun())
            for hour, verdict in self._look_at(walk, sorted(hours)).items():
                if self._settle(walk, hour, verdict):
                    self.open.pop((walk.topic_id, hour), None)
                    continue
                due = walk.closed_until is not None and hour + window <= walk.closed_until and not verdict.marked
                self.open[walk.topic_id, hour] = _Open(walk, verdict.findings, due)
                found += verdict.findings
            found += self._look_at_others(walk)
        self._extras = extras + self._extras
        return found + self._look_at_extras()

    def _look_at_extras(self) -> list[Finding]:
        """Files with the name of an appended part: late records that the policy puts into the hour's directory."""
        found, kept = [], {}
        for extra in self._extras:
            window = extra.walk.window_ms
            directory = layout.hour_path(self.topic, extra.hour, window)
            path, parsed = f"{directory}/{extra.name}", layout.parse_part_name(extra.name)
            if parsed is None or self.store.stat(f"{self.store.root}/{path}") is None:
                continue  # shown meanwhile, under its other name
            known = extra.name in self._known.get(directory, ()) or self._may_be(parsed.partition, parsed.first)
            hour = layout.hour_name(extra.hour, window)
            if not known:
                detail = "no decision names it"
                found.append(Finding(What.FILE_UNKNOWN, self.topic, path, detail, extra.walk.topic_id, hour=hour))
            elif parsed.hidden and extra.marked:
                detail = "its hour is marked, and it does not show"
                found.append(Finding(What.PART_HIDDEN, self.topic, path, detail, extra.walk.topic_id, hour=hour))
            else:
                continue
            kept[extra.hour, extra.name] = extra
        self._extras = list(kept.values())
        return found

    def _may_be(self, partition: int, first: int) -> bool:
        """Whether an entry that is not there any more may have decided it."""
        chains = [walk.chains.get(partition) for walk in self.walks]
        return any(chain is not None and chain.is_unknown(first) for chain in chains)

    def _due_hours(self) -> set[tuple[str, int]]:
        return {key for key, one in self.open.items() if one.due}

    def _without_progress(self, suspects: list[Finding], waiting: set[tuple[str, int]]) -> list[Finding]:
        """An hour is not forgotten as long as its finisher works off those before it."""
        done = {topic_id for topic_id, _ in waiting - self._due_hours()}
        return [one for one in suspects if one.what is not What.MARKER_MISSING or one.topic_id not in done]

    def _keep(self, suspects: list[Finding]) -> None:
        keys = {finding.key for finding in suspects}
        for one in self.open.values():
            one.findings = tuple(finding for finding in one.findings if finding.key in keys)

    # -- trees ------------------------------------------------------------------------------------

    def _unknown_files(self) -> list[Finding]:
        """Files of the late and quarantine trees, and with ``full`` of strange hours, that nobody decided."""
        directories = {path for path in self._directories if not path.startswith(f"{self.topic}/")}
        if self.options.full:
            for kind in Kind:
                directories |= {
                    path for path, hour in self._directories_of(kind) if kind is not Kind.HOUR or hour not in self._seen
                }
        found = self._strange_files(directories)
        for _ in range(LOOKS - 1):
            if not found:
                break
            time.sleep(PAUSE_S)
            for walk in self.walks:
                walk.refresh()
                self._look_at_others(walk)
            found = persisting(found, self._strange_files({one.path.rsplit("/", 1)[0] for one in found}))
        said = {one.path for one in found}
        watched = {path for walk in self.walks if walk.saved for path in walk.saved.watch} - said
        found += [one for path in sorted(watched) for one in self._still_strange(path)]
        self._watch = tuple(sorted({one.path for one in found}))
        return found

    def _still_strange(self, path: str) -> list[Finding]:
        """A file that an earlier run did not know: what is new since then may not be enough to judge it."""
        directory, name = path.rsplit("/", 1)
        known = name in self._known.get(directory, ()) or self.store.stat(f"{self.store.root}/{path}") is None
        return [] if known else [self._strange(path)]

    def _strange(self, path: str) -> Finding:
        if path.endswith(f"/{layout.SUCCESS}"):
            return Finding(What.MARKER_EARLY, self.topic, path, "no partition has a record of this hour")
        return Finding(What.FILE_UNKNOWN, self.topic, path, "no decision names it")

    def _directories_of(self, kind: Kind) -> Iterator[tuple[str, int]]:
        """Every hour's directory of a tree, and its hour."""
        top = layout.tree(kind, self.topic)
        window = self.walks[0].window_ms
        for day in self._subdirectories(top):
            names = [day] if window >= DAY_MS else [f"{day}/{name}" for name in self._subdirectories(f"{top}/{day}")]
            for name in names:
                try:
                    hour = layout.parse_hour_directory(name)
                except ValueError:
                    continue
                if self.options.since_ms is None or hour >= self.options.since_ms:
                    yield f"{top}/{name}", hour

    def _subdirectories(self, path: str) -> list[str]:
        return [status.name for status in self.store.list(f"{self.store.root}/{path}") if status.is_dir]

    def _strange_files(self, directories: Iterable[str]) -> list[Finding]:
        now_known = {
            one.part.path for walk in self.walks for c in walk.chains.values() for p in c.parts.values() for one in p
        }
        hours = {path.rsplit("/", 1)[0] for path in now_known}
        wanted = sorted(set(directories) - hours)
        return [finding for found in self.pool.map(self._strange_in, wanted) for finding in found]

    def _strange_in(self, directory: str) -> list[Finding]:
        found = []
        for status in self.store.list(f"{self.store.root}/{directory}"):
            parsed = layout.parse_part_name(status.name)
            if status.name in self._known.get(directory, ()):
                continue
            path = f"{directory}/{status.name}"
            if self._is_compacted(directory, status.name) or self._is_reinjected(status.name):
                continue
            if parsed is None or not self._may_be(parsed.partition, parsed.first):
                found.append(self._strange(path))
        return found

    # -- deep -------------------------------------------------------------------------------------

    def _read_hour(self, hour: Hour, look: Look, manifest: Plan | None) -> list[Finding]:
        configs = {one.part.path: one.config for one in hour.decided}
        found: list[Finding] = []
        if manifest is not None:
            for file in manifest.files:
                found += self._read(hour.finding, f"{hour.directory}/{file.name}", file.parts, configs)
            return found
        for one in hour.decided:
            there = look.files.get(one.name)
            if there is not None and there.length == one.part.size:
                found += self._read(hour.finding, one.part.path, [one.part], configs)
        return found

    def _read(
        self, finding: Callable[..., Finding], path: str, parts: Iterable[Part], configs: dict[str, str]
    ) -> list[Finding]:
        today = self.config.hash if self.config is not None else None
        segments = [deep.Segment(part, self.config if configs.get(part.path) == today else None) for part in parts]
        damages = deep.read_file(self.store, f"{self.store.root}/{path}", segments) or []
        return [
            finding(
                What.FILE_DAMAGED if damage.bytes_differ else What.FILE_CONTENT,
                path,
                damage.detail,
                [_range_of(damage.part)],
            )
            for damage in damages
        ]

    # -- the end ----------------------------------------------------------------------------------

    def _count(self) -> None:
        figures = self.figures
        for walk in self.walks:
            for chain in walk.chains.values():
                figures.partitions += 1
                figures.entries += chain.entries
                figures.records += chain.records
                if chain.head is not None:
                    state = chain.head.state
                    figures.offsets += state.committed + len(state.decided) - chain.proven_from
        figures.open = len(self.open)

    def saved(self) -> dict[str, SavedTopic]:
        """What the next run may take as proved."""
        result = {}
        for walk in self.walks:
            hours = [hour for topic_id, hour in self.open if topic_id == walk.topic_id]
            until = self._until.get(walk.topic_id, walk.saved.until if walk.saved else None)
            ends = [hour + walk.window_ms for hour in hours]
            chains = {
                number: SavedChain(*chain.sound, tuple(chain.pending(ends)), chain.certain_from)
                for number, chain in walk.chains.items()
                if chain.sound is not None and number not in walk.rolled_back
            }
            if walk.saved is not None:
                # said again until a person has seen to it
                chains |= {number: walk.saved.chains[number] for number in walk.rolled_back}
            settled = [hour for hour in hours if until is not None and hour < until]
            result[walk.topic_id] = SavedTopic(chains, until, tuple(sorted(settled)), self._watch)
        return result


@dataclass(frozen=True, slots=True)
class _Finder:
    """Makes findings about one late or quarantined part."""

    topic: str
    one: Decided

    def __call__(self, what: What, path: str, detail: str, ranges: Iterable[tuple[int, int, int]] = ()) -> Finding:
        pid = self.one.pid
        return Finding(what, self.topic, path, detail, pid.topic_id, pid.partition, ranges=tuple(ranges))


def _range_of(part: Part) -> tuple[int, int, int]:
    name = layout.parse_part_name(part.path.rsplit("/", 1)[1])
    return (name.partition if name is not None else -1, part.offsets.first, part.offsets.last)
