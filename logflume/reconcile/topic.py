"""All that is checked of one topic: its chains, its hours, its late and quarantine trees.

First everything is looked at once, a stretch of time at a time. What is not as it should be is looked at
again, after the chains were read to their new ends: beside a running daemon a part may be on its way, and
only what stays the same is a finding.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace

from logflume.config import TopicConfig
from logflume.core import layout
from logflume.finish.plan import File
from logflume.reconcile import compacted
from logflume.reconcile.chain import Decided
from logflume.reconcile.explain import Explain
from logflume.reconcile.findings import Finding, What, persisting
from logflume.reconcile.look import look_at, look_at_directory
from logflume.reconcile.model import Figures, Options
from logflume.reconcile.plan import Hour, Look, Verdict, check, check_alone, is_hidden
from logflume.reconcile.read import Reader
from logflume.reconcile.strangers import Strangers
from logflume.reconcile.walk import SavedChain, SavedTopic, TopicWalk
from logflume.store.base import Store

#: looks at what is not as it should be, and the pause before each, in seconds
LOOKS, PAUSE_S = 3, 0.7


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
    _explain: Explain = field(init=False)
    _strangers: Strangers = field(init=False)
    _reader: Reader = field(init=False)

    def __post_init__(self) -> None:
        self._explain = Explain(self.store, self.topic, self.walks, self.settled_ms)
        self._strangers = Strangers(
            self.store, self.topic, self.walks, self.options, self.pool, self._explain, looks=LOOKS
        )
        self._reader = Reader(self.store, self.config)

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
        self.findings += self._strangers.find(self._look_again)
        self._count()

    def _look_again(self) -> None:
        """Wait a moment, and read what came to the chains."""
        time.sleep(PAUSE_S)
        for walk in self.walks:
            walk.refresh()
            self._look_at_others(walk)

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
        if verdict.findings or verdict.under_way or not (verdict.marked or verdict.gone):
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
            elif self._explain.is_compacted(hour.directory, name, whole_hour=True):
                continue
            elif parsed is None or verdict.marked or not hour.unknown(parsed.partition, parsed.first):
                findings.append(hour.finding(What.FILE_UNKNOWN, f"{hour.directory}/{name}", "no decision names it"))
        if self.options.deep and not findings:
            findings += self._reader.hour(hour, look, verdict.manifest)
        self._strangers.seen.add(hour.hour)
        return replace(verdict, findings=tuple(findings), extra=())

    # -- late and quarantined parts ---------------------------------------------------------------

    def _look_at_others(self, walk: TopicWalk) -> list[Finding]:
        """Each of them in its directory; those that are right need not be looked at again."""
        by_directory: dict[str, list[Decided]] = {}
        for chain in walk.chains.values():
            for one in chain.others:
                directory, name = one.part.path.rsplit("/", 1)
                by_directory.setdefault(directory, []).append(one)
                self._strangers.known.setdefault(directory, set()).update((name, name.removeprefix("_")))
                self._strangers.directories.add(directory)
        found, wrong = [], set()
        for findings, paths in self.pool.map(self._look_at_directory, by_directory.items()):
            found += findings
            wrong |= paths
        for chain in walk.chains.values():
            chain.others = [one for one in chain.others if one.part.path in wrong]
        return found

    def _look_at_directory(self, item: tuple[str, list[Decided]]) -> tuple[list[Finding], set[str]]:
        directory, decided = item
        found, wrong, merged, there = [], set(), list[File](), set[str]()

        def unfold(look: Look) -> None:
            there.update(look.files)
            for record in self._explain.compactions(directory, look.files):
                found.extend(self._explain.left(record, look))
                merged.extend(compacted.unfold(record, look))

        look = look_at_directory(self.store, directory, decided, unfold)
        inside = {part.path: file.name for file in merged for part in file.parts}
        for file in merged if self.options.deep else ():
            found += self._reader.file(self._finding_of(decided[0]), f"{directory}/{file.name}", file.parts, {})
        if found:
            # it is the whole directory's, so all of it is looked at again
            wrong = {one.part.path for one in decided}
        for one in decided:
            problems = list(check_alone(self._finding_of(one), look, one, self.settled_ms))
            shows = one.name.removeprefix("_")
            if one.part.path in inside and shows in there:
                detail = compacted.twice(inside[one.part.path])
                problems.append(self._finding_of(one)(What.FILE_UNKNOWN, f"{directory}/{shows}", detail))
            moves = one.part.tmp in look.in_tmp or is_hidden(look, one)
            if self.options.deep and not problems and not moves and one.part.path not in inside:
                shown = one.part.path if one.name in look.files else f"{directory}/{one.name[1:]}"
                problems = self._reader.file(self._finding_of(one), shown, [one.part], {one.part.path: one.config})
            if problems or moves:
                wrong.add(one.part.path)
            found += problems
        return found, wrong

    def _compaction_begun(self, hour: Hour, look: Look) -> Verdict | None:
        """While an hour is compacted it has no marker, and its record and plan say where everything is."""
        if look.marker is not None:
            return None
        names = [*look.files, *compacted.planned(look)]
        found = [
            record
            for record in self._explain.compactions(hour.directory, names, whole_hour=True)
            if record.spot.topic_id == hour.topic_id
        ]
        return Verdict(tuple(self._explain.left(found[0], look))) if found else None

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
            if extra.name in self._strangers.known.get(directory, ()):
                continue
            hour = layout.hour_name(extra.hour, window)
            if not self._explain.may_be(parsed.partition, parsed.first):
                detail = "no decision names it"
                found.append(Finding(What.FILE_UNKNOWN, self.topic, path, detail, extra.walk.topic_id, hour=hour))
            elif parsed.hidden and extra.marked:
                detail = "its entry is dropped, its hour is marked, and it does not show"
                found.append(Finding(What.PART_HIDDEN, self.topic, path, detail, extra.walk.topic_id, hour=hour))
            else:
                continue
            kept[extra.hour, extra.name] = extra
        self._extras = list(kept.values())
        return found

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
            result[walk.topic_id] = SavedTopic(chains, until, tuple(sorted(settled)), self._strangers.watch)
        return result


@dataclass(frozen=True, slots=True)
class _Finder:
    """Makes findings about one late or quarantined part."""

    topic: str
    one: Decided

    def __call__(self, what: What, path: str, detail: str, ranges: Iterable[tuple[int, int, int]] = ()) -> Finding:
        pid = self.one.pid
        return Finding(what, self.topic, path, detail, pid.topic_id, pid.partition, ranges=tuple(ranges))
