"""What can be wrong, and who mends it: one table, used by the checks, the output and the exit codes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from logflume.errors import Incomplete, Repairable, Repaired


class Mend(StrEnum):
    """Who mends it."""

    REPAIR = "repair"  # reconcile --repair, without asking anybody
    BACKFILL = "backfill"  # a backfill command, which is printed: it reads Kafka
    PERSON = "person"
    NOTE = "note"  # nobody: worth saying, and no reason to fail


class What(StrEnum):
    """The findings; the values are in the JSON, in metrics and in alerts."""

    ENTRY_MISSING = "entry_missing"
    ENTRY_DAMAGED = "entry_damaged"
    ENTRY_STRAY = "entry_stray"
    CHAIN_BROKEN = "chain_broken"
    CHAIN_ROLLED_BACK = "chain_rolled_back"
    LEDGER_GONE = "ledger_gone"
    TOPIC_FILE = "topic_file"
    FILE_MISSING = "file_missing"
    FILE_LENGTH = "file_length"
    FILE_DAMAGED = "file_damaged"
    FILE_CONTENT = "file_content"
    FILE_OF_OLD_ID = "file_of_old_id"
    FILE_UNKNOWN = "file_unknown"
    MARKER_MISSING = "marker_missing"
    MARKER_LOST = "marker_lost"
    MARKER_EARLY = "marker_early"
    MARKER_WRONG = "marker_wrong"
    PLAN_WRONG = "plan_wrong"
    PART_UNPUBLISHED = "part_unpublished"
    PART_HIDDEN = "part_hidden"
    PART_LEFT = "part_left"
    PLAN_LEFT = "plan_left"
    REVEAL_LEFT = "reveal_left"
    COMPACTION_LEFT = "compaction_left"
    REINJECTED_WRONG = "reinjected_wrong"
    REINJECTED_LEFT = "reinjected_left"
    HOUR_STRANDED = "hour_stranded"
    TMP_LEFT = "tmp_left"
    SPOOL_LEFT = "spool_left"
    HOUR_DUPLICATE = "hour_duplicate"
    KAFKA_LOST = "kafka_lost"
    KAFKA_TRUNCATED = "kafka_truncated"
    TOPIC_RECREATED = "topic_recreated"
    REPAIR_FAILED = "repair_failed"
    KAFKA_UNREACHABLE = "kafka_unreachable"
    TOPIC_GONE = "topic_gone"
    TRIMMED_UNSEEN = "trimmed_unseen"


#: what each means, and who mends it
MEANINGS: dict[What, tuple[Mend, str]] = {
    What.ENTRY_MISSING: (Mend.PERSON, "an entry of the ledger is gone, and later ones are there"),
    What.ENTRY_DAMAGED: (Mend.PERSON, "an entry of the ledger cannot be read, or is not what it was"),
    What.ENTRY_STRAY: (Mend.NOTE, "an entry of an owner that slept for longer than the ledger is kept"),
    What.CHAIN_BROKEN: (Mend.PERSON, "an entry contradicts the one before it"),
    What.CHAIN_ROLLED_BACK: (Mend.PERSON, "the newest entries that an earlier run saw are gone"),
    What.LEDGER_GONE: (Mend.PERSON, "the ledger is gone: an earlier run saw it, or hours are there without one"),
    What.TOPIC_FILE: (Mend.PERSON, "topic.json, the first number of partitions, is missing or damaged"),
    What.FILE_MISSING: (Mend.BACKFILL, "a decided file is not there"),
    What.FILE_LENGTH: (Mend.BACKFILL, "a decided file has another length"),
    What.FILE_DAMAGED: (Mend.BACKFILL, "a decided file has other bytes (--deep)"),
    What.FILE_CONTENT: (Mend.PERSON, "records are not what their decision says: count, or hour (--deep)"),
    What.FILE_OF_OLD_ID: (Mend.PERSON, "a decided file is gone or damaged, and Kafka has another topic of that name"),
    What.FILE_UNKNOWN: (Mend.PERSON, "a file that no decision names, or that was merged into another one"),
    What.MARKER_MISSING: (Mend.REPAIR, "every partition has closed the hour, and nobody finishes it"),
    What.MARKER_LOST: (Mend.PERSON, "an hour without marker, whose entries are past ledger_retention"),
    What.MARKER_EARLY: (Mend.PERSON, "a marker, though a partition has not closed the hour"),
    What.MARKER_WRONG: (Mend.PERSON, "a marker that does not say what the ledger says"),
    What.PLAN_WRONG: (Mend.PERSON, "a plan that does not say what the ledger says"),
    What.PART_UNPUBLISHED: (Mend.REPAIR, "a decided part still lies in tmp"),
    What.PART_HIDDEN: (Mend.REPAIR, "an appended part that does not show, in an hour that is marked"),
    What.PART_LEFT: (Mend.REPAIR, "a hidden part whose bytes the finished file holds"),
    What.PLAN_LEFT: (Mend.REPAIR, "the plan of an hour that is marked"),
    What.REVEAL_LEFT: (Mend.REPAIR, "an operator's _INCOMPLETE beside _SUCCESS"),
    What.COMPACTION_LEFT: (Mend.REPAIR, "a compaction that was begun and is not done"),
    What.REINJECTED_WRONG: (Mend.PERSON, "a file of reinjected records that is gone, or not what was written"),
    What.REINJECTED_LEFT: (Mend.REPAIR, "reinjected records that were decided and do not show yet"),
    What.HOUR_STRANDED: (Mend.PERSON, "an hour that an earlier id of the topic has left open for good"),
    What.TMP_LEFT: (Mend.REPAIR, "an upload that nobody can decide any more"),
    What.SPOOL_LEFT: (Mend.REPAIR, "the spool of a worker that is gone, on this host"),
    What.HOUR_DUPLICATE: (Mend.PERSON, "offsets of an hour are in another root, too"),
    What.KAFKA_LOST: (Mend.PERSON, "Kafka has removed offsets that were not decided"),
    What.KAFKA_TRUNCATED: (Mend.PERSON, "Kafka's log ends below what was decided"),
    What.TOPIC_RECREATED: (Mend.PERSON, "the topic was deleted and re-created"),
    What.REPAIR_FAILED: (Mend.PERSON, "a repair did not come about"),
    What.KAFKA_UNREACHABLE: (Mend.NOTE, "Kafka does not answer, so this was not compared with it"),
    What.TOPIC_GONE: (Mend.NOTE, "the topic is not in Kafka any more"),
    What.TRIMMED_UNSEEN: (Mend.NOTE, "entries were dropped by retention before a run saw them"),
}

#: partition, first and last offset
Range = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be. ``hour`` by its name; ``path`` relative to the root, or of this
    host for a spool. ``ranges`` are the offsets that a backfill has to read.
    """

    what: What
    topic: str
    path: str
    detail: str
    topic_id: str = ""
    partition: int | None = None
    hour: str = ""
    ranges: tuple[Range, ...] = ()
    hint: str = ""

    @property
    def mend(self) -> Mend:
        return MEANINGS[self.what][0]

    @property
    def key(self) -> tuple[str, str, str, int | None]:
        """What makes it the same finding in two looks."""
        return (self.what.value, self.topic, self.path, self.partition)


def persisting(before: Iterable[Finding], now: Iterable[Finding]) -> list[Finding]:
    """Those of ``now`` that an earlier look had, too: what is only under way does not stay the same."""
    known = {finding.key for finding in before}
    return [finding for finding in now if finding.key in known]


def backfills(findings: Sequence[Finding], config_path: str) -> list[str]:
    """The commands that bring back what is lost: by hours where they are known, since a marker names parts of which the
    entries are dropped already; else one for each run of offsets.
    """
    hours: dict[str, set[str]] = defaultdict(set)
    ranges: dict[tuple[str, int], list[tuple[int, int]]] = defaultdict(list)
    for finding in findings:
        if finding.mend is Mend.BACKFILL and finding.hour:
            hours[finding.topic].add(finding.hour)
        elif finding.mend is Mend.BACKFILL:
            # one stretch of each partition for a file: what else lies in between is whole, and stays as it is
            for number in {partition for partition, _, _ in finding.ranges}:
                own = [(first, last) for partition, first, last in finding.ranges if partition == number]
                ranges[finding.topic, number].append((min(own)[0], max(last for _, last in own)))
    by_hours = [
        f"logflume backfill -c {config_path} --topic {topic} --hours {','.join(sorted(names))} --repair"
        for topic, names in sorted(hours.items())
    ]
    return by_hours + [
        f"logflume backfill -c {config_path} --topic {topic} --partition {partition} --offsets {first}-{last} --repair"
        for (topic, partition), found in sorted(ranges.items())
        for first, last in _joined(found)
    ]


def _joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return joined


def told_by_kafka(findings: Iterable[Finding], topic_ids: Mapping[str, str]) -> list[Finding]:
    """What a backfill cannot mend is a person's: records of an id that is not Kafka's any more. ``topic_ids``: those
    that Kafka has, by topic; "" for a topic that it does not know.
    """
    hint = "bring it back from a snapshot or the trash: Kafka removed the records together with the topic"
    return [
        replace(one, what=What.FILE_OF_OLD_ID, hint=hint)
        if one.mend is Mend.BACKFILL and topic_ids.get(one.topic, one.topic_id) != one.topic_id
        else one
        for one in findings
    ]


def exit_code(findings: Iterable[Finding], *, repaired: int) -> int:
    """0 clean; else what is left: a person's work, what ``--repair`` would do, or nothing after a repair."""
    mends = {finding.mend for finding in findings}
    if mends & {Mend.PERSON, Mend.BACKFILL}:
        return Incomplete.exit_code
    if Mend.REPAIR in mends:
        return Repairable.exit_code
    return Repaired.exit_code if repaired else 0
