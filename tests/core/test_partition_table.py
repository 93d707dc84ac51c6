"""Every phase × event, and what the rows that are not obvious do."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import pytest

from logflume.core import codec, ledger
from logflume.core.diagram import mermaid, words
from logflume.core.events import (
    CaughtUp,
    Claim,
    Claimed,
    Commit,
    ConfirmEnd,
    Decide,
    Decided,
    Drain,
    EndConfirmed,
    Event,
    Failed,
    Forget,
    Overtaken,
    Records,
    Report,
    Revoke,
    Start,
    Tick,
    Trouble,
    Write,
)
from logflume.core.ledger import Closing, Head
from logflume.core.partition import (
    METADATA_BYTES,
    RETRY_FIRST_S,
    RETRY_LAST_S,
    STOPPED_S,
    TABLE,
    IllegalEvent,
    Partition,
    Phase,
    commit_of,
)
from logflume.core.router import Rows, Rules
from logflume.errors import Fenced, LedgerError, Stopped, StoreError
from logflume.model import HOUR_MS, PartitionId
from tests.core.test_properties import entry_of

PID = PartitionId("app", "VGhlVG9waWNJZA", 3)
RULES = Rules(idle_grace_ms=60_000)
T0 = 500_000 * HOUR_MS
ERROR, MONO = StoreError("no answer"), 1000.0


def head() -> Head:
    return Head(ledger.genesis(PID, window_ms=HOUR_MS, start=0, owner="a", at=1, config="c"), "the hash")


def rows(first: int, *times: int) -> Rows:
    offsets = list(range(first, first + len(times)))
    return Rows(offsets, times, times, {}, 10 * len(times), first + len(times))


def after(decision: Decide) -> Head:
    entry = entry_of(decision.head, decision.round)
    ledger.check_follows(decision.head, entry)
    return Head(entry, hashlib.sha256(codec.encode(entry)).hexdigest())


def decided(partition: Partition) -> Head:
    """The head after the round that the partition has in flight."""
    assert partition._round is not None
    assert partition.head is not None
    return after(Decide(partition._round, partition.head))


TO: dict[Phase, list[Event]] = {
    Phase.CLAIMING: [],
    Phase.WAITING: [Failed(ERROR, MONO)],
    Phase.READING: [Claimed(head())],
    Phase.DECIDING: [Claimed(head()), Records(rows(0, T0), T0, MONO), Tick(T0, MONO)],
    Phase.RETRYING: [Claimed(head()), Records(rows(0, T0), T0, MONO), Tick(T0, MONO), Failed(ERROR, MONO)],
    Phase.DRAINING: [Claimed(head()), Records(rows(0, T0), T0, MONO), Drain(MONO)],
    Phase.STOPPED: [Trouble(Stopped("lost offsets"), MONO)],
    Phase.GONE: [Revoke()],
}


def partition_in(phase: Phase) -> Partition:
    partition = Partition(RULES)
    for event in TO[phase]:
        partition.handle(event)
    assert partition.phase is phase
    return partition


def events_for(partition: Partition) -> list[Event]:
    """At least one event of each type, early and late where time matters."""
    position = partition.router.position if partition.router is not None else 0
    answer = decided(partition) if partition._round is not None else head()
    late = MONO + 10 * RETRY_LAST_S
    return [
        Claimed(head()),
        Failed(ERROR, MONO),
        Overtaken(Fenced("another's"), MONO),
        Trouble(Stopped("lost offsets"), MONO),
        Records(rows(position, T0 + 1), T0, MONO),
        CaughtUp(position, MONO),
        Tick(T0, MONO),
        Tick(T0 + 9 * HOUR_MS, late),
        EndConfirmed(position, T0 + 9 * HOUR_MS, late),
        EndConfirmed(None, T0, MONO),
        Decided(answer),
        Drain(MONO),
        Revoke(),
    ]


def kinds(actions: Sequence[object]) -> list[type]:
    return [type(action) for action in actions]


@pytest.mark.parametrize("phase", Phase)
def test_every_event_in_every_phase_is_either_in_the_table_or_illegal(phase: Phase) -> None:
    seen = set()
    for i in range(len(events_for(partition_in(phase)))):
        partition = partition_in(phase)
        event = events_for(partition)[i]
        seen.add(type(event))
        row = TABLE.get((phase, type(event)))
        if row is None:
            with pytest.raises(IllegalEvent, match=f"{type(event).__name__} while {phase}"):
                partition.handle(event)
            assert partition.phase is phase
        else:
            partition.handle(event)
            assert partition.phase in row.ends
    assert seen == {event for _, event in TABLE}, "an event of the table was not sent"


def test_every_phase_has_its_row_and_can_be_left_by_a_revocation() -> None:
    assert {phase for phase, _ in TABLE} == set(Phase)
    assert all((phase, Revoke) in TABLE and (phase, Drain) in TABLE for phase in Phase)


def test_a_handler_that_ends_in_a_phase_its_row_does_not_name_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    row = TABLE[Phase.CLAIMING, Revoke]
    monkeypatch.setitem(TABLE, (Phase.CLAIMING, Revoke), replace(row, ends=(Phase.READING,)))
    with pytest.raises(IllegalEvent, match="Revoke while claiming ended in gone"):
        Partition(RULES).handle(Revoke())


# -- rows that are not obvious ----------------------------------------------------------------------


def test_a_claim_starts_reading_at_c() -> None:
    claimed = head()
    claimed = replace(claimed, entry=replace(claimed.entry, state=replace(claimed.state, committed=7, position=9)))
    assert Partition(RULES).handle(Claimed(claimed)) == [Start(7)]


def test_a_failed_claim_is_tried_again_after_longer_and_longer_pauses() -> None:
    partition, mono, pauses = Partition(RULES), MONO, []
    for _ in range(9):
        partition.handle(Failed(ERROR, mono))
        since = mono
        while partition.handle(Tick(T0, mono)) == []:
            mono += 0.25
        pauses.append(mono - since)
    assert pauses == [RETRY_FIRST_S * 2**n for n in range(6)] + [RETRY_LAST_S] * 3


def test_a_round_is_retried_with_the_same_words_while_more_hours_close() -> None:
    partition = partition_in(Phase.DECIDING)
    first = partition._round
    partition.handle(Records(rows(1, T0 + 3 * HOUR_MS, T0 + 6 * HOUR_MS), T0, MONO))
    partition.handle(Failed(ERROR, MONO))
    partition.handle(Records(rows(3, T0 + 9 * HOUR_MS), T0, MONO))
    (again,) = partition.handle(Tick(T0, MONO + RETRY_LAST_S))
    assert isinstance(again, Decide)
    assert again.round is first
    partition.handle(Decided(after(again)))
    (then,) = partition.handle(Tick(T0, MONO + RETRY_LAST_S))
    assert isinstance(then, Decide)
    assert [closing.boundary for closing in then.round.closed] == [1, 2, 3]
    assert sorted(part.first for part in then.round.parts) == [0, 1, 2]
    after(then)


def test_what_came_while_a_decision_was_in_flight_is_drained_too() -> None:
    partition = partition_in(Phase.DECIDING)
    partition.handle(Records(rows(1, T0 + 3 * HOUR_MS), T0, MONO))
    assert partition.handle(Drain(MONO)) == []
    commit, more = partition.handle(Decided(decided(partition)))
    assert isinstance(commit, Commit)
    assert isinstance(more, Decide)
    last = after(more)
    assert kinds(partition.handle(Decided(last))) == [Commit, Forget]
    assert partition.phase is Phase.GONE
    assert last.state.committed == last.state.position == 2


def test_draining_with_nothing_held_lets_go_at_once() -> None:
    assert partition_in(Phase.READING).handle(Drain(MONO)) == [Forget()]


def test_being_overtaken_drops_everything_and_begins_a_new_life() -> None:
    partition = partition_in(Phase.DECIDING)
    life, serials = partition.life, partition.serials
    actions = partition.handle(Overtaken(Fenced("another's"), MONO))
    assert kinds(actions) == [Forget, Report]
    assert partition.router is None
    assert partition.life == life + 1
    partition.handle(Tick(T0, MONO + RETRY_LAST_S))
    partition.handle(Claimed(head()))
    (write,) = partition.handle(Records(rows(0, T0), T0, MONO))
    assert isinstance(write, Write)
    assert write.keeps[0].part >= serials, "a part's serial is never used twice in a process"


def test_claims_that_lead_to_no_decision_come_after_longer_and_longer_pauses() -> None:
    """P3: what was spooled is not whole, again and again, until the disk has room."""
    partition, mono, pauses = Partition(RULES), MONO, []
    for _ in range(9):
        partition.handle(Claimed(head()))
        partition.handle(Records(rows(0, T0), T0, mono))
        partition.handle(Tick(T0, mono))
        partition.handle(Overtaken(StoreError("no space left"), mono))
        began = mono
        while partition.phase is Phase.WAITING:
            mono += RETRY_FIRST_S
            partition.handle(Tick(T0, mono))
        pauses.append(mono - began)
    assert pauses == [RETRY_FIRST_S * 2**n for n in range(6)] + [RETRY_LAST_S] * 3
    partition.handle(Claimed(head()))
    partition.handle(Records(rows(0, T0), T0, mono))
    partition.handle(Tick(T0, mono))
    partition.handle(Decided(decided(partition)))
    partition.handle(Records(rows(1, T0), T0, mono))
    partition.handle(Tick(T0, mono + RULES.roll_every_s))
    partition.handle(Overtaken(ERROR, mono))
    assert partition.handle(Tick(T0, mono + RETRY_FIRST_S)) == [Claim()], "a decision is progress"


def test_a_stopped_partition_is_looked_at_again() -> None:
    partition = partition_in(Phase.STOPPED)
    assert partition.handle(Tick(T0, MONO + STOPPED_S - 1)) == []
    assert partition.handle(Tick(T0, MONO + STOPPED_S)) == [Claim()]


def test_records_that_contradict_the_ledger_stop_the_partition() -> None:
    closed = Closing(None, T0 + HOUR_MS, 5, "watermark", 1)
    state = replace(head().state, frontier=closed.until, boundaries=(closed,), position=5)
    partition = Partition(RULES)
    partition.handle(Claimed(Head(replace(head().entry, state=state), "x")))
    actions = partition.handle(Records(rows(0, T0 + 1), T0, MONO))
    assert partition.phase is Phase.STOPPED
    assert kinds(actions) == [Forget, Report]
    assert isinstance(partition.error, LedgerError)


# -- idle -------------------------------------------------------------------------------------------

QUIET = T0 + 2 * HOUR_MS
GRACE = RULES.idle_grace_ms / 1000


def quiet() -> Partition:
    """Caught up after one record, decided, nothing to do."""
    partition = partition_in(Phase.DECIDING)
    partition.handle(Decided(decided(partition)))
    partition.handle(CaughtUp(1, MONO))
    return partition


def test_an_idle_partition_closes_after_the_broker_confirms_the_end() -> None:
    partition = quiet()
    assert partition.handle(Tick(QUIET, MONO + GRACE)) == [ConfirmEnd()]
    assert partition.handle(Tick(QUIET, MONO + GRACE)) == [], "one question at a time"
    (decision,) = partition.handle(EndConfirmed(1, QUIET, MONO + GRACE))
    assert isinstance(decision, Decide)
    (closing,) = decision.round.closed
    assert (closing.until, closing.boundary, closing.reason) == (T0 + HOUR_MS, 1, "idle")
    assert decision.round.state.committed == 1


def test_an_idle_partition_with_no_records_at_all_closes_too() -> None:
    partition = partition_in(Phase.READING)
    partition.handle(CaughtUp(0, MONO))
    assert partition.handle(Tick(QUIET, MONO + GRACE)) == [ConfirmEnd()]
    assert kinds(partition.handle(EndConfirmed(0, QUIET, MONO + GRACE))) == [Decide]


@pytest.mark.parametrize(
    ("event", "why"),
    [
        (Tick(QUIET, MONO + GRACE - 1), "something came within the grace time"),
        (Tick(T0 + 660_000 - 1, MONO + GRACE), "by the clock the hour before may still get records"),
    ],
)
def test_an_idle_closing_waits(event: Tick, why: str) -> None:
    assert quiet().handle(event) == [], why


def test_nobody_is_idle_while_the_spool_is_full() -> None:
    """K15: nothing is read."""
    partition = quiet()
    assert ConfirmEnd() not in partition.handle(Tick(QUIET, MONO + GRACE, full=True))


def test_what_is_held_is_decided_when_the_spool_is_full() -> None:
    """With nothing due it stayed full until ``roll_every``, and nothing was read."""
    partition = quiet()
    partition.handle(Records(rows(1, T0 + 2), QUIET, MONO))
    assert partition.handle(Tick(QUIET, MONO)) == []
    (decision,) = partition.handle(Tick(QUIET, MONO, full=True))
    assert isinstance(decision, Decide)
    assert decision.round.state.committed == 2


@pytest.mark.parametrize("position", [None, 2, 0])
def test_an_end_that_is_unknown_or_elsewhere_closes_nothing_and_is_asked_for_again(position: int | None) -> None:
    partition = quiet()
    partition.handle(Tick(QUIET, MONO + GRACE))
    assert partition.handle(EndConfirmed(position, QUIET, MONO + GRACE)) == []
    assert partition.handle(Tick(QUIET, MONO + GRACE)) == [ConfirmEnd()]


def test_records_that_come_while_the_end_is_asked_for_begin_the_idle_time_anew() -> None:
    partition = quiet()
    partition.handle(Tick(QUIET, MONO + GRACE))
    partition.handle(Records(rows(1, T0 + 2), QUIET, MONO + GRACE))
    partition.handle(CaughtUp(2, MONO + GRACE))
    assert partition.handle(EndConfirmed(2, QUIET, MONO + GRACE)) == []
    assert partition.phase is Phase.READING


def test_a_partition_that_was_not_read_to_the_end_is_not_idle() -> None:
    partition = partition_in(Phase.DECIDING)
    partition.handle(Decided(decided(partition)))
    assert partition.handle(Tick(QUIET, MONO + GRACE)) == []


# -- S6 ---------------------------------------------------------------------------------------------


def test_the_commit_names_c_and_the_boundaries_of_the_hours_closed() -> None:
    entry = replace(head().entry, closed=(Closing(None, T0 + HOUR_MS, 5, "watermark", 1),))
    state = replace(entry.state, committed=4, leader_epoch=8)
    commit = commit_of(Head(replace(entry, state=state), "x"))
    assert (commit.offset, commit.leader_epoch) == (4, 8)
    assert commit.metadata == '{"seq":0,"B":[["2027-01-15T08",5]]}'


def test_the_metadata_of_a_commit_has_a_bound() -> None:
    closings = tuple(Closing(None, T0 + n * HOUR_MS, 2**63 - 1, "watermark", 1) for n in range(1000))
    assert len(commit_of(Head(replace(head().entry, closed=closings), "x")).metadata) <= METADATA_BYTES


# -- the picture ------------------------------------------------------------------------------------


def test_the_diagram_shows_every_change_of_phase_and_is_always_the_same() -> None:
    text = mermaid()
    assert text == mermaid(dict(reversed(TABLE.items())))
    for (phase, event), row in TABLE.items():
        for end in row.ends:
            arrow = next((line for line in text.splitlines() if line.strip().startswith(f"{phase} --> {end}:")), None)
            assert (arrow is not None and words(event) in arrow) or end is phase
    assert text.startswith("stateDiagram-v2\n    [*] --> claiming\n")
    assert text.endswith("gone --> [*]\n")
    assert words(CaughtUp) == "caught up"
