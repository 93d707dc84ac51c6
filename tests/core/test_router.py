"""Directed examples: one promise each. Windows are 100 ms here, lateness is 30, the future begins after 50."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logflume.core import ledger, router
from logflume.core.ledger import Closing, Head, State
from logflume.core.router import END_OF_TIME_MS, Keep, OpenPart, Round, Router, Rows, Rules
from logflume.errors import LedgerError
from logflume.model import Kind, OffsetSet, PartitionId, Reason
from tests.core.test_properties import entry_of

RULES = Rules(
    window_ms=100,
    lateness_ms=30,
    idle_grace_ms=20,
    max_future_ms=50,
    min_time_ms=1000,
    roll_every_s=60.0,
    roll_bytes=1000,
)
STATE = State(window_ms=100, start=0, position=0, committed=0)
NOW = 10_000


def fresh(rules: Rules = RULES, state: State = STATE) -> Router:
    return Router(rules, state)


def rows(
    offsets: Sequence[int],
    times: Sequence[int],
    *,
    kafka: Sequence[int] | None = None,
    rejects: dict[int, Reason] | None = None,
    end: int | None = None,
) -> Rows:
    return Rows(
        offsets, times, times if kafka is None else kafka, rejects or {}, 10 * len(offsets),
        offsets[-1] + 1 if end is None else end,
    )  # fmt: skip


def feed(it: Router, *times: int, now: int = NOW, mono: float = 0.0) -> list[Keep]:
    """The next records, in one batch."""
    return it.route(rows(range(it.position, it.position + len(times)), times), now=now, mono=mono)


def parts(opened: Sequence[OpenPart]) -> dict[tuple[str, int], list[int]]:
    return {(part.kind.value, part.hour): list(part.offsets) for part in opened}


def held(it: Router) -> dict[tuple[str, int], list[int]]:
    return parts(list(it.open.values()))


def closings(it: Router | Round) -> list[tuple[int, int]]:
    return [(closing.until, closing.boundary) for closing in it.closed]


def cut(it: Router, *, everything: bool = False, mono: float = 0.0) -> Round:
    return it.cut(mono, seq=1, everything=everything)


def decided_above_c() -> State:
    """Offset 0 is open, 1 and 2 are decided with the closing of an earlier hour."""
    it = fresh()
    feed(it, 2101, 2050, 2060)
    feed(it, 2140)
    state = cut(it).state
    assert (state.committed, list(state.decided), state.frontier) == (0, [1, 2], 2100)
    return replace(state, leader_epoch=5)


def restarted(it: Router, round_: Round) -> Router:
    """A successor that knows only what the round would write."""
    return Router(it.rules, round_.state)


# -- hours and boundaries ---------------------------------------------------------------------------


def test_the_first_record_closes_everything_before_its_lateness() -> None:
    it = fresh()
    feed(it, 2_010)
    assert closings(it) == [(1_900, 0)]
    assert held(it) == {("hour", 2_000): [0]}


def test_records_out_of_order_within_the_lateness_go_to_their_own_hours() -> None:
    it = fresh()
    feed(it, 2_090, 2_110, 2_095, 2_129, 2_000)
    assert held(it) == {("hour", 2_000): [0, 2, 4], ("hour", 2_100): [1, 3]}


def test_b_is_the_offset_of_the_record_that_moves_the_watermark_to_the_end_plus_lateness() -> None:
    it = fresh()
    feed(it, 2_050, 2_129, 2_050, 2_130, 2_050)
    assert closings(it) == [(2_000, 0), (2_100, 3)]
    assert held(it) == {("hour", 2_000): [0, 2], ("hour", 2_100): [1, 3], ("late", 2_000): [4]}


def test_the_record_at_the_boundary_is_not_late_itself_and_the_next_one_of_the_hour_is() -> None:
    it = fresh(replace(RULES, lateness_ms=0))
    feed(it, 2_099, 2_100, 2_099)
    assert held(it) == {("hour", 2_000): [0], ("hour", 2_100): [1], ("late", 2_000): [2]}


def test_each_of_several_open_hours_closes_on_its_own() -> None:
    it = fresh(replace(RULES, lateness_ms=250))
    feed(it, 2_000, 2_100, 2_200, 2_000, 2_300, 2_349, 2_001)
    assert len(it.open) == 4
    feed(it, 2_350, 2_002, 2_449, 2_102, 2_450, 2_103)
    assert closings(it)[-2:] == [(2_100, 7), (2_200, 11)]
    assert held(it)["hour", 2_000] == [0, 3, 6]
    assert held(it)["hour", 2_100] == [1, 10]
    assert held(it)["late", 2_000] == [8]
    assert held(it)["late", 2_100] == [12]


def test_a_jump_closes_all_the_hours_in_between_at_one_offset() -> None:
    it = fresh()
    feed(it, 2_010, 9_999)
    assert closings(it) == [(1_900, 0), (9_900, 1)]
    assert all(it.closed[1].covers(end) for end in (2_000, 2_100, 5_000, 9_900))
    assert not it.closed[1].covers(10_000)
    assert not it.closed[1].covers(1_900)


@pytest.mark.parametrize(
    ("time", "kafka", "reject", "reason"),
    [
        (5_051, 5_000, {}, Reason.FUTURE),
        (999, 5_000, {}, Reason.ANCIENT),
        (5_000, 5_000, {0: Reason.BAD_JSON}, Reason.BAD_JSON),
        (99_000, 5_000, {0: Reason.NO_TIME}, Reason.NO_TIME),
        (10_051, -1, {}, Reason.FUTURE),
    ],
)
def test_a_quarantined_record_never_moves_the_watermark(
    time: int, kafka: int, reject: dict[int, Reason], reason: Reason
) -> None:
    it = fresh()
    feed(it, 2_010)
    (keep,) = it.route(rows([1], [time], kafka=[kafka], rejects=reject), now=NOW, mono=0.0)
    assert (keep.kind, keep.rows, keep.reasons) == (Kind.QUARANTINE, [0], [reason])
    assert it.watermark == 2_010
    assert held(it)["quarantine", max(kafka, 0)] == [1]
    assert it.open[Kind.QUARANTINE, max(kafka, 0)].reasons == {reason: 1}


def test_a_record_without_a_kafka_time_does_not_hide_the_others_from_being_judged() -> None:
    it = fresh()
    it.route(rows([0, 1], [2_000, 2_000], kafka=[1_900, -1]), now=NOW, mono=0.0)
    assert held(it) == {("quarantine", 1_900): [0], ("hour", 2_000): [1]}


@pytest.mark.parametrize(("time", "kafka"), [(5_050, 5_000), (1_000, 5_000), (10_050, -1)])
def test_the_bounds_of_what_is_accepted_are_inclusive(time: int, kafka: int) -> None:
    it = fresh()
    it.route(rows([0], [time], kafka=[kafka]), now=NOW, mono=0.0)
    assert [kind for kind, _ in it.open] == [Kind.HOUR]


def test_a_time_that_no_directory_can_be_named_after_is_quarantined_whatever_kafka_says() -> None:
    it = fresh()
    ordinary = END_OF_TIME_MS - 1
    feed(it, 2_010)
    far = [END_OF_TIME_MS, 2**60, -5]
    it.route(rows([1, 2, 3], far, kafka=far), now=NOW, mono=0.0)
    assert held(it) == {("hour", 2_000): [0], ("quarantine", 0): [1, 2, 3]}
    it.route(rows([4], [ordinary], kafka=[ordinary]), now=NOW, mono=0.0)
    assert it.watermark == ordinary


# -- late -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["side", "append"])
def test_late_records_go_to_parts_of_their_own(policy: str) -> None:
    it = fresh(replace(RULES, late=policy))
    keeps = feed(it, 2_010, 5_000, 2_011, 2_112)
    assert [keep.kind for keep in keeps] == [Kind.HOUR, Kind.HOUR, Kind.LATE, Kind.LATE]
    assert held(it)["late", 2_000] == [2]
    assert cut(it).state.late == 2


def test_late_records_may_be_dropped_and_then_are_counted_and_have_a_fate() -> None:
    it = fresh(replace(RULES, late="drop"))
    keeps = feed(it, 2_010, 5_000, 2_011, 2_112)
    assert [keep.kind for keep in keeps] == [Kind.HOUR, Kind.HOUR]
    round_ = cut(it, everything=True)
    assert list(round_.dropped) == [2, 3]
    assert (round_.state.dropped, round_.state.late, round_.state.committed) == (2, 0, 4)


# -- gaps and repeats -------------------------------------------------------------------------------


def test_offsets_that_never_come_are_gaps_inside_between_and_behind_batches() -> None:
    it = fresh()
    it.route(rows([2, 3, 6], [2_000, 2_001, 2_002], end=8), now=NOW, mono=0.0)
    it.route(rows([10, 11], [2_003, 2_004], end=13), now=NOW, mono=0.0)
    it.caught_up(15)
    assert list(it.gaps) == [0, 1, 4, 5, 7, 8, 9, 12, 13, 14]
    assert (it.position, it.committed) == (15, 2)
    round_ = cut(it, everything=True)
    assert round_.state.committed == 15
    ledger.check_follows(HEAD, entry_of(HEAD, round_))


def test_repeated_records_are_dropped_and_counted() -> None:
    it = fresh()
    feed(it, 2_000, 2_001, 2_002)
    assert it.route(rows([0, 1], [2_000, 2_001]), now=NOW, mono=0.0) == []
    (keep,) = it.route(rows([1, 2, 3], [2_001, 2_002, 2_003]), now=NOW, mono=0.0)
    assert keep.rows == [2]
    assert it.repeats == 4
    assert held(it) == {("hour", 2_000): [0, 1, 2, 3]}


def test_records_that_a_decision_covers_are_counted_when_they_are_read_again() -> None:
    it = fresh()
    feed(it, 2_050, 2_110, 2_060, 2_130)
    round_ = cut(it)  # the hour that closed, and not the one of offset 1
    assert (list(round_.state.decided), round_.state.committed) == ([2], 1)
    again = restarted(it, round_)
    feed(again, 2_110, 2_060, 2_130)
    assert again.repeats == 1
    assert held(again) == {("hour", 2_100): [1, 3]}


def test_an_end_behind_the_position_changes_nothing() -> None:
    it = fresh()
    feed(it, 2_000, 2_001)
    it.caught_up(1)
    assert (it.position, list(it.gaps)) == (2, [])


def test_gaps_or_dropped_records_alone_move_c_on_in_time() -> None:
    it = fresh()
    it.caught_up(5)
    assert not it.due(100.0)
    assert not it.due(100.0 + RULES.roll_every_s - 1)
    assert it.due(100.0 + RULES.roll_every_s)
    assert cut(it).state.committed == 5
    assert not it.due(1e9), "nothing new to say"


def test_an_hour_that_is_over_is_cut_once_in_the_middle_of_its_lateness() -> None:
    it = fresh()
    feed(it, 2_050, 2_110, 2_114)
    cut(it)
    assert held(it) == {("hour", 2_000): [0], ("hour", 2_100): [1, 2]}
    assert not it.due(0.0)
    feed(it, 2_060, 2_115)
    assert it.due(0.0)
    assert parts(cut(it).parts) == {("hour", 2_000): [0, 3]}
    feed(it, 2_070, 2_129)
    assert not it.due(0.0), "a straggler waits for the closing"
    feed(it, 2_130)
    assert parts(cut(it).parts) == {("hour", 2_000): [5]}


# -- rounds -----------------------------------------------------------------------------------------

HEAD = Head(ledger.genesis(PartitionId("app", "id", 0), window_ms=100, start=0, owner="a", at=0, config=""), "")


def test_c_stays_at_the_first_open_record_when_an_hour_closes() -> None:
    it = fresh()
    feed(it, 2_050, 2_060, 2_110, 2_070, 2_130, 2_131)
    round_ = cut(it)
    assert parts(round_.parts) == {("hour", 2_000): [0, 1, 3]}
    assert closings(round_)[-1] == (2_100, 4)
    state = round_.state
    assert (state.committed, state.position, list(state.decided)) == (2, 6, [3])
    assert (state.watermark, state.seen) == (2_060, 2_131)
    assert [closing.boundary for closing in state.boundaries] == [4]


def test_a_closing_takes_all_late_and_quarantined_parts_along() -> None:
    it = fresh()
    feed(it, 2_050, 5_000, 2_051)
    it.route(rows([3], [9_000], kafka=[5_000]), now=NOW, mono=0.0)
    feed(it, 5_030)
    assert sorted(parts(cut(it).parts)) == [("hour", 2_000), ("late", 2_000), ("quarantine", 5_000)]
    assert held(it) == {("hour", 5_000): [1, 4]}


def test_an_old_part_takes_everything_along_so_that_c_is_at_the_position() -> None:
    it = fresh()
    feed(it, 2_050, mono=0.0)
    cut(it)
    feed(it, 2_110, mono=30.0)
    assert not it.due(59.0)
    assert it.due(60.0)
    round_ = cut(it, mono=60.0)
    assert sorted(parts(round_.parts)) == [("hour", 2_000), ("hour", 2_100)]
    assert round_.state.committed == 2


def test_a_large_part_closes_alone() -> None:
    it = fresh()
    feed(it, 2_110, 2_050)
    cut(it)
    feed(it, *[2_051] * 100)
    assert it.due(0.0)
    round_ = cut(it)
    assert parts(round_.parts) == {("hour", 2_000): list(range(1, 102))}
    assert (round_.state.committed, list(round_.state.decided)) == (0, list(range(1, 102)))


def test_too_many_open_parts_all_close(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(router, "OPEN_PARTS", 3)
    it = fresh()
    feed(it, 9_050)
    cut(it)
    feed(it, 2_000, 3_000)
    assert not it.due(0.0)
    feed(it, 4_000)
    assert it.due(0.0)
    assert len(cut(it).parts) == 4


def test_nothing_is_due_when_nothing_was_read() -> None:
    assert not fresh().due(1e9)


def test_an_entry_says_from_where_a_finisher_reads() -> None:
    it = fresh()
    feed(it, 2_050, 2_130)
    assert it.cut(0.0, seq=5).state.unfinished == {1_900: 5, 2_000: 5}
    it.finished_until = 2_100
    feed(it, 2_230)
    assert it.cut(0.0, seq=6).state.unfinished == {2_100: 6}


# -- idle -------------------------------------------------------------------------------------------


def test_an_idle_closing_is_written_down_and_takes_everything_along() -> None:
    it = fresh()
    feed(it, 2_050, 2_110)
    cut(it)
    assert it.close_idle(2_149) is False, "too early"
    assert it.close_idle(2_150) is True
    assert it.close_idle(2_150) is False, "once"
    round_ = cut(it)
    assert [(c.since, c.until, c.boundary, c.reason) for c in round_.closed] == [(2_000, 2_100, 2, "idle")]
    assert (round_.state.committed, len(round_.parts)) == (2, 2)
    feed(it, 2_070)
    assert held(it) == {("late", 2_000): [2]}


def test_what_the_clock_closed_stays_closed_after_a_restart() -> None:
    it = fresh()
    feed(it, 2_050)
    it.close_idle(2_950)
    again = restarted(it, cut(it))
    feed(again, 2_801, 2_930)
    assert held(again) == {("late", 2_800): [1], ("hour", 2_900): [2]}
    assert closings(again) == []
    feed(again, 3_030)
    assert closings(again) == [(3_000, 3)]


def test_a_partition_without_records_closes_by_the_clock() -> None:
    it = fresh()
    assert it.close_idle(2_150)
    round_ = cut(it)
    assert (round_.closed[0].since, round_.closed[0].until, round_.closed[0].boundary) == (None, 2_100, 0)


# -- restarts ---------------------------------------------------------------------------------------


def test_a_replay_skips_what_is_decided_and_computes_the_same_boundaries() -> None:
    times = [2_050, 2_110, 2_070, 2_129, 2_130, 2_080, 2_229, 2_090, 2_230, 2_231]
    straight = fresh()
    feed(straight, *times)
    first = fresh()
    feed(first, *times[:6])
    round_ = cut(first)
    assert (round_.state.committed, list(round_.state.decided)) == (1, [2, 5])
    again = restarted(first, round_)
    feed(again, *times[1:])
    assert [*closings(round_), *closings(again)] == closings(straight)
    assert held(again) == {
        ("hour", 2_100): [1, 3, 4],
        ("hour", 2_200): [6, 8, 9],
        ("late", 2_000): [7],
    }


def test_a_replay_with_a_shorter_lateness_closes_no_hour_below_an_offset_that_was_decided_into_it() -> None:
    it = fresh(replace(RULES, lateness_ms=80, roll_bytes=30))
    feed(it, 2_101, 2_050, 2_131, 2_060, 2_070)
    round_ = cut(it)
    assert (round_.state.committed, list(round_.state.decided), round_.state.frontier) == (0, [1, 3, 4], 2_000)
    again = fresh(RULES, round_.state)
    feed(again, 2_101, 2_050, 2_131, 2_060, 2_070)
    assert closings(again) == []
    feed(again, 2_090, 2_120, 2_130, 2_080)
    assert closings(again) == [(2_100, 7)]
    assert held(again) == {("hour", 2_100): [0, 2, 6, 7], ("hour", 2_000): [5], ("late", 2_000): [8]}


def test_c_behind_what_is_not_delivered_is_of_no_known_leader() -> None:
    """A transaction's marker may be of a later one: asked with the epoch of the record before, the broker says that
    it ended below C, as of a truncated log.
    """
    it = fresh()
    it.route(replace(rows([0, 1], [2_050, 2_060]), leader_epoch=5), now=NOW, mono=0.0)
    assert cut(it, everything=True).state.leader_epoch == 5
    it.caught_up(4)
    state = cut(it, everything=True).state
    assert (state.committed, state.leader_epoch) == (4, -1)
    again = fresh(RULES, state)
    again.route(replace(rows([4], [2_070]), leader_epoch=6), now=NOW, mono=0.0)
    assert cut(again, everything=True).state.leader_epoch == 6


def test_a_decided_record_moves_the_watermark_again_on_replay() -> None:
    it = fresh()
    feed(it, 2_000)
    cut(it)
    feed(it, *[2_101] * 100)
    round_ = cut(it)
    assert round_.state.committed == 0
    again = restarted(it, round_)
    assert again.watermark is None
    feed(again, *[2_000, *[2_101] * 100])
    assert again.watermark == 2_101
    assert cut(again, everything=True).state.watermark == 2_101


def test_a_round_may_be_cut_in_the_middle_of_a_replay() -> None:
    times = [2_050, 2_110, 2_070, 2_129, 2_130, 2_080, 2_131]
    it = fresh()
    feed(it, *times)
    round_ = cut(it)
    assert (round_.state.committed, list(round_.state.decided)) == (1, [2, 5])
    again = restarted(it, round_)
    feed(again, *times[1:3])
    middle = cut(again, everything=True)
    assert (middle.state.committed, middle.state.position, list(middle.state.decided)) == (3, 7, [5])
    assert (middle.state.watermark, middle.state.seen) == (2_110, 2_131)
    last = restarted(again, middle)
    feed(last, *times[3:])
    assert held(last) == {("hour", 2_100): [3, 4, 6]}


def test_a_gap_that_was_decided_is_not_decided_again() -> None:
    it = fresh()
    it.route(rows([0, 3], [2_110, 2_050], end=5), now=NOW, mono=0.0)
    feed(it, 2_130)
    round_ = cut(it)
    assert (round_.state.committed, list(round_.gaps)) == (0, [1, 2, 4])
    again = restarted(it, round_)
    again.route(rows([0, 3, 5], [2_110, 2_050, 2_130], end=7), now=NOW, mono=0.0)
    assert list(again.gaps) == [6]


@pytest.mark.parametrize("later", [NOW + 100, NOW + 5_000])
def test_a_record_that_the_clock_called_future_is_not_judged_anew_on_replay(later: int) -> None:
    it = fresh(replace(RULES, future_against="clock"))
    feed(it, 10_000, 10_100, 14_000, 10_050, 10_130, 10_140, now=NOW + 100)
    assert held(it)["quarantine", 14_000] == [2]
    round_ = cut(it)
    assert (round_.state.committed, list(round_.state.decided), list(round_.state.rejected)) == (1, [2, 3], [2])
    assert round_.state.boundaries[-1] == Closing(10_000, 10_100, 4, "watermark", NOW + 100)
    again = restarted(it, round_)
    feed(again, 10_100, 14_000, 10_050, 10_130, 10_140, now=later)
    assert held(again) == {("hour", 10_100): [1, 4, 5]}
    assert again.watermark == 10_140
    assert closings(again) == []


def test_a_clock_that_went_back_quarantines_what_was_read_and_not_decided_and_opens_nothing_again() -> None:
    it = fresh(replace(RULES, future_against="clock"))
    feed(it, 10_000, 10_100, 10_050, 10_130, now=NOW + 100)
    again = restarted(it, cut(it))
    feed(again, 10_100, 10_050, 10_130, 10_040, now=NOW)
    assert held(again) == {("quarantine", 10_100): [1, 3], ("late", 10_000): [4]}


def test_a_record_that_contradicts_a_closing_is_an_error() -> None:
    closing = Closing(None, 2_100, 5, "watermark", 0)
    it = fresh(state=replace(STATE, frontier=2_100, boundaries=(closing,), position=6))
    with pytest.raises(LedgerError, match="offset 4 belongs to an hour that entry closed at 5 without it"):
        it.route(rows([4], [2_050]), now=NOW, mono=0.0)
    it = fresh(state=replace(STATE, frontier=2_100, boundaries=(closing,), position=6))
    it.route(rows([5], [2_050]), now=NOW, mono=0.0)
    assert held(it) == {("late", 2_000): [5]}


def test_serials_go_on_where_the_last_life_ended() -> None:
    it = Router(RULES, STATE, first_serial=7)
    assert [keep.part for keep in feed(it, 2_050, 2_110)] == [7, 8]
    assert it.serials == 9


# -- where knowledge begins ---------------------------------------------------------------------------


def begun_at_17() -> Router:
    entry = ledger.genesis(PartitionId("app", "id", 0), window_ms=100, start=17, owner="a", at=1, config="c")
    return fresh(state=entry.state)


def test_hours_before_the_first_record_plus_lateness_are_not_known_whole() -> None:
    it = begun_at_17()
    it.route(rows([17], [99], rejects={0: Reason.BAD_JSON}), now=NOW, mono=0.0)
    assert it.blind[0].until is None, "a rejected record says nothing"
    it.route(rows([18, 19], [2_070, 9_000], kafka=[9_000, 9_000]), now=NOW, mono=0.0)
    (blind,) = it.blind
    assert blind.covers(1_000)
    assert blind.covers(2_000)
    assert blind.covers(2_100), "a record of exactly 2100 may have come before the one of 2070"
    assert not blind.covers(2_200)
    assert cut(it).state.blind == (blind,)


def test_the_beginning_of_knowledge_is_the_same_after_a_restart() -> None:
    it = begun_at_17()
    it.route(rows([17], [2_050]), now=NOW, mono=0.0)
    again = restarted(it, cut(it))
    again.route(rows([17, 18], [2_050, 7_000], kafka=[7_000, 7_000]), now=NOW, mono=0.0)
    assert again.blind[0].until == 2_081


def test_an_idle_closing_is_a_beginning_too() -> None:
    it = begun_at_17()
    it.close_idle(2_150)
    assert it.blind[0].until == 2_150 + 50 + 30 + 1


def after_a_loss() -> Router:
    it = fresh()
    feed(it, 2_050, 2_210)
    head = Head(entry_of(HEAD, cut(it, everything=True)), "")
    return fresh(state=ledger.lose(head, until=50, owner="op", at=1, config="", note="retention").state)


def test_after_lost_offsets_the_hours_open_then_are_not_known_whole() -> None:
    it = after_a_loss()
    it.route(rows([50], [2_310]), now=NOW, mono=0.0)
    (blind,) = it.blind
    assert [hour for hour in range(2_000, 2_600, 100) if blind.covers(hour)] == [2_100, 2_200, 2_300]


def test_a_late_record_after_lost_offsets_does_not_say_where_knowledge_begins() -> None:
    it = after_a_loss()
    it.route(rows([50], [2_005]), now=NOW, mono=0.0)
    assert it.blind[0].until is None
    it.route(rows([51], [2_310]), now=NOW, mono=0.0)
    assert it.blind[0].until == 2_341


# -- the fast path ------------------------------------------------------------------------------------

TIMES = st.one_of(st.integers(2_000, 2_099), st.integers(1_900, 2_300), st.sampled_from([999, 5_000]))


@given(
    st.lists(
        st.tuples(
            st.lists(st.tuples(TIMES, st.integers(-1, 200), st.sampled_from([1, 1, 1, 1, 3])), min_size=1, max_size=8),
            st.integers(0, 2),
            st.booleans(),
        ),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from(["kafka", "clock"]),
)
def test_the_fast_path_and_single_records_come_to_the_same(
    batches: list[tuple[list[tuple[int, int, int]], int, bool]], against: str
) -> None:
    quick, slow, single = (fresh(replace(RULES, future_against=against)) for _ in range(3))
    slow._fits_one_hour = lambda rows, now: None  # type: ignore[method-assign]
    offset = 0
    for records, trailing, cuts in batches:
        offsets = []
        for _, _, step in records:
            offset += step
            offsets.append(offset - 1)
        times = [time for time, _, _ in records]
        kafka = [-1 if delay < 0 else time + delay - 60 for time, delay, _ in records]
        offset += trailing
        whole = rows(offsets, times, kafka=kafka, end=offset)
        kept = quick.route(whole, now=2_100, mono=0.0)
        assert spread(kept, len(times)) == spread(slow.route(whole, now=2_100, mono=0.0), len(times))
        for at, time, kafka_time in zip(offsets, times, kafka, strict=True):
            single.route(rows([at], [time], kafka=[kafka_time]), now=2_100, mono=0.0)
        single.caught_up(offset)
        assert everything(quick) == everything(slow) == everything(single)
        if cuts:
            assert words(cut(quick)) == words(cut(slow)) == words(cut(single))


def spread(kept: list[Keep], n: int) -> list[tuple[int, Kind, list[int], list[Reason] | None]]:
    return [
        (keep.part, keep.kind, list(range(n)[keep.rows]) if isinstance(keep.rows, slice) else keep.rows, keep.reasons)
        for keep in kept
    ]


def everything(it: Router) -> tuple[object, ...]:
    opened = [by_name(part) for part in it.open.values()]
    return (it.position, it.watermark, it.frontier, it.closed, it.gaps, it.dropped, opened)


def by_name(part: OpenPart) -> tuple[object, ...]:
    """A part without its serial, which follows the order in which a batch is cut up."""
    times = (part.watermark_before, part.min_time, part.max_time)
    return (part.kind, part.hour, part.first, part.offsets, times, dict(part.reasons))


def words(round_: Round) -> tuple[object, ...]:
    return ([by_name(part) for part in round_.parts], round_.closed, round_.gaps, round_.dropped, round_.state)


def test_a_batch_in_one_run_takes_the_fast_path() -> None:
    it = fresh()
    feed(it, 2_000)
    (keep,) = feed(it, 2_001, 2_002, 2_003)
    assert keep.rows == slice(0, 3)
    assert it.open[Kind.HOUR, 2_000].offsets == OffsetSet.run(0, 4)


@pytest.mark.parametrize("hours", [2, 40], ids=["few", "many"])
def test_hours_that_alternate_get_each_record_once_in_the_order_of_their_first(hours: int) -> None:
    it = fresh(Rules(window_ms=100, lateness_ms=10**6, min_time_ms=1000, max_future_ms=10**6))
    times = [2000 + (7 * i % hours) * 100 + i % 100 for i in range(400)]
    keeps = feed(it, 2000, *times)
    expected: dict[int, list[int]] = {}
    for offset, time in enumerate([2000, *times]):
        expected.setdefault(time - time % 100, []).append(offset)
    assert held(it) == {("hour", hour): offsets for hour, offsets in expected.items()}
    assert [list(range(401))[keep.rows] if isinstance(keep.rows, slice) else keep.rows for keep in keeps] == [
        *expected.values()
    ]


def test_a_batch_over_a_long_time_is_held_against_each_records_own_kafka_time() -> None:
    it = fresh(Rules(window_ms=10_000, lateness_ms=30, max_future_ms=50, min_time_ms=1000))
    feed(it, 20_040)
    times = [20_000, 25_000, 29_000, 24_000]
    # no record is ahead of its own time, though the last is far ahead of the first one's; so one slice takes all
    keeps = it.route(rows(range(1, 5), times), now=NOW, mono=0.0)
    assert [keep.rows for keep in keeps] == [slice(0, 4)]
    keeps = it.route(rows(range(5, 9), times, kafka=[20_000, 25_000, 28_949, 24_000]), now=NOW, mono=0.0)
    assert held(it)[("quarantine", 20_000)] == [7]


def test_a_replay_under_another_setting_of_the_time_closes_nothing_by_what_was_decided() -> None:
    """A restart that read ms as s put the frontier of the partition into the year 58692."""
    it = fresh(state=decided_above_c())
    it.route(rows(range(3), [2_101_000, 2_050_000, 2_060_000], kafka=[2101, 2050, 2060]), now=NOW, mono=0.0)
    assert (it.frontier, it.repeats) == (2100, 2)
    assert held(it) == {("quarantine", 2100): [0]}
    it.route(rows([3], [2_120]), now=NOW, mono=0.0)
    assert (it.frontier, it.watermark) == (2100, 2_120)


def test_a_decided_offset_that_a_later_leader_has_written_is_a_truncated_log() -> None:
    """K9: below C nothing tells it, and the new records were taken for repeated ones."""
    again = rows(range(3), [2101, 2050, 2060])
    fresh(state=decided_above_c()).route(replace(again, leader_epoch=5), now=NOW, mono=0.0)
    with pytest.raises(LedgerError, match=r"offset 1 was decided.*6 after 5.*truncated"):
        fresh(state=decided_above_c()).route(replace(again, leader_epoch=6), now=NOW, mono=0.0)
    # what was only read then, and is read anew, is whatever is there now
    fresh(state=decided_above_c()).route(replace(rows([0], [2101]), leader_epoch=6), now=NOW, mono=0.0)


def test_a_rejected_record_moves_no_watermark_in_a_replay_either() -> None:
    it = fresh()
    log = rows(range(4), [2101, 2160, 2140, 2165], kafka=[2101, 2100, 2140, 2165])
    it.route(log, now=NOW, mono=0.0)
    state = cut(it).state
    assert (state.committed, list(state.decided), list(state.rejected), state.seen) == (0, [1], [1], 2165)
    again = fresh(state=state)
    again.route(rows(range(2), [2101, 2160], kafka=[2101, 2100]), now=NOW, mono=0.0)
    assert again.watermark == 2101
