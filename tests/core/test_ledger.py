"""Entries ↔ bytes, damage, and the rules of a chain."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logflume.core import codec, ledger
from logflume.core.ledger import Blind, Closing, Entry, Head, Part, State
from logflume.errors import LedgerError
from logflume.model import Kind, OffsetSet, PartitionId

PID = PartitionId("app", "VGhlVG9waWNJZA", 3)

#: an entry has so many parts that drawing one takes longer than the test
FEWER = settings(max_examples=max(50, settings().max_examples // 4))
TEXT = st.text(max_size=20)
TIMES = st.integers(0, 2**53)
OFFSETS = st.integers(0, 2**63 - 1)
SETS = st.builds(
    lambda scattered, runs: OffsetSet(scattered) | OffsetSet(o for a, n in runs for o in range(a, a + n)),
    st.lists(OFFSETS, max_size=10),
    st.lists(st.tuples(st.integers(0, 2**62), st.integers(0, 300)), max_size=3),
)


def maybe(what: st.SearchStrategy[int]) -> st.SearchStrategy[int | None]:
    return st.none() | what


CLOSINGS = st.builds(Closing, maybe(TIMES), TIMES, OFFSETS, st.sampled_from(["watermark", "idle"]), TIMES)
STATES = st.builds(
    State,
    window_ms=TIMES,
    start=OFFSETS,
    position=OFFSETS,
    committed=OFFSETS,
    watermark=maybe(TIMES),
    seen=maybe(TIMES),
    frontier=maybe(TIMES),
    boundaries=st.lists(CLOSINGS, max_size=3).map(tuple),
    decided=SETS,
    rejected=SETS,
    first_hour=maybe(TIMES),
    blind=st.lists(st.builds(Blind, maybe(TIMES), maybe(TIMES), OFFSETS, TEXT), max_size=2).map(tuple),
    unfinished=st.dictionaries(TIMES, OFFSETS, max_size=3),
    finished_until=maybe(TIMES),
    leader_epoch=st.integers(-1, 2**31),
    late=TIMES,
    quarantined=TIMES,
    dropped=TIMES,
)
PARTS = st.builds(
    Part, st.sampled_from(Kind), TIMES, TEXT, TEXT, TIMES, TIMES, TIMES, TEXT, SETS, TIMES, TIMES,
    st.dictionaries(TEXT, TIMES, max_size=2),
)  # fmt: skip
ENTRIES = st.builds(
    Entry,
    pid=st.builds(PartitionId, TEXT, TEXT, st.integers(0, 99_999)),
    seq=OFFSETS,
    prev=TEXT,
    what=st.sampled_from(["claim", "decide", "gap"]),
    owner=TEXT,
    epoch=OFFSETS,
    at=TIMES,
    config=TEXT,
    state=STATES,
    parts=st.lists(PARTS, max_size=3).map(tuple),
    closed=st.lists(CLOSINGS, max_size=3).map(tuple),
    gaps=SETS,
    dropped=SETS,
    note=TEXT,
)


def head_of(entry: Entry) -> Head:
    return codec.decode(codec.encode(entry))


def part(first: int, end: int, *, kind: Kind = Kind.HOUR, hour: int = 7_200_000) -> Part:
    offsets = OffsetSet.run(first, end)
    return Part(kind, hour, f"p{first}", f"t{first}", 9, 9, end - first, "", offsets, hour, hour)


# -- bytes ----------------------------------------------------------------------------------------


@FEWER
@given(ENTRIES)
def test_an_entry_survives_its_bytes(entry: Entry) -> None:
    data = codec.encode(entry)
    assert codec.decode(data, pid=entry.pid, seq=entry.seq) == Head(entry, hashlib.sha256(data).hexdigest())
    assert codec.encode(codec.decode(data).entry) == data


@FEWER
@given(ENTRIES)
def test_an_entry_is_one_line_of_json_that_any_program_can_read(entry: Entry) -> None:
    data = codec.encode(entry)
    assert data.index(b"\n") == len(data) - 1
    body = json.loads(data)
    assert (body["topic"], body["seq"], body["state"]["committed"]) == (
        entry.pid.topic,
        entry.seq,
        entry.state.committed,
    )


@FEWER
@given(ENTRIES, st.data())
def test_any_changed_byte_is_noticed(entry: Entry, data: st.DataObject) -> None:
    good = codec.encode(entry)
    bad = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        bad[data.draw(st.integers(0, len(bad) - 1))] = data.draw(st.integers(0, 255))
    if bytes(bad) != good:
        with pytest.raises(LedgerError, match="damaged"):
            codec.decode(bytes(bad))


@FEWER
@given(ENTRIES, st.data())
def test_any_truncation_or_addition_is_noticed(entry: Entry, data: st.DataObject) -> None:
    good = codec.encode(entry)
    with pytest.raises(LedgerError, match="damaged"):
        codec.decode(good[: data.draw(st.integers(0, len(good) - 1))])
    with pytest.raises(LedgerError, match="damaged"):
        codec.decode(good + data.draw(st.binary(min_size=1, max_size=9)))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)


def signed(text: bytes) -> bytes:
    """The text of another program that knows how to sum: only the contents are wrong."""
    return b'{"sum":"%s",%s' % (hashlib.sha256(text).hexdigest().encode(), text[1:])


@FEWER
@given(ENTRIES, st.data())
def test_an_entry_of_another_shape_is_a_ledger_error_and_nothing_else(entry: Entry, data: st.DataObject) -> None:
    body = json.loads(codec.encode(entry))
    del body["sum"]
    inner = body["state"] if data.draw(st.booleans()) else body
    name = data.draw(st.sampled_from(sorted(inner)))
    if data.draw(st.booleans()):
        del inner[name]
    else:
        inner[name] = data.draw(JSON)
    with contextlib.suppress(LedgerError):
        codec.decode(signed(json.dumps(body).encode()))


@pytest.mark.parametrize("text", [b"{}", b"{]", b'{"v":1,"x":' + b"[" * 200_000, b'{"v":"1"}', b'{"v":2}'])
def test_signed_nonsense_is_a_ledger_error(text: bytes) -> None:
    with pytest.raises(LedgerError):
        codec.decode(signed(text))


@given(st.binary(max_size=200))
def test_bytes_that_are_no_set_are_a_value_error(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        OffsetSet.loads(data)


def test_an_entry_of_another_place_is_refused() -> None:
    data = codec.encode(ledger.genesis(PID, window_ms=1, start=0, owner="a", at=1, config="c"))
    with pytest.raises(LedgerError, match="says it is entry 0 of app/3"):
        codec.decode(data, pid=PID, seq=1)
    with pytest.raises(LedgerError, match="says it is entry 0 of app/3"):
        codec.decode(data, pid=replace(PID, topic_id="other"), seq=0)


# -- the chain ------------------------------------------------------------------------------------

HOUR = 3_600_000
BEFORE = Head(
    replace(
        ledger.genesis(PID, window_ms=HOUR, start=0, owner="a", at=1, config="c"),
        seq=4,
        state=State(
            window_ms=HOUR,
            start=0,
            position=30,
            committed=10,
            frontier=2 * HOUR,
            decided=OffsetSet.run(20, 25),
        ),
    ),
    "the hash",
)
#: a lawful successor: the rest of what was read, one hour closed
AFTER = replace(
    BEFORE.entry,
    seq=5,
    prev="the hash",
    what="decide",
    parts=(part(10, 20), part(25, 28, kind=Kind.LATE, hour=0)),
    gaps=OffsetSet.run(28, 29),
    dropped=OffsetSet.run(29, 30),
    closed=(Closing(2 * HOUR, 3 * HOUR, 29, "watermark", 5),),
    state=replace(BEFORE.state, committed=30, frontier=3 * HOUR, decided=OffsetSet()),
)


def test_a_lawful_entry_follows() -> None:
    ledger.check_follows(BEFORE, AFTER)
    ledger.check_follows(BEFORE, ledger.claim(BEFORE, owner="b", at=2, config="d"))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda e: replace(e, seq=6), "does not link"),
        (lambda e: replace(e, prev="another"), "does not link"),
        (lambda e: replace(e, pid=replace(PID, partition=4)), "does not link"),
        (lambda e: replace(e, state=replace(e.state, committed=9)), "C goes back from 10 to 9"),
        (lambda e: replace(e, state=replace(e.state, position=29)), "C goes back"),
        (lambda e: replace(e, state=replace(e.state, frontier=HOUR), closed=()), "a closed hour is open again"),
        (lambda e: replace(e, state=replace(e.state, frontier=None), closed=()), "a closed hour is open again"),
        (lambda e: replace(e, closed=()), "closed without a closing"),
        (lambda e: replace(e, closed=(replace(e.closed[0], since=None),)), "does not begin where"),
        (lambda e: replace(e, parts=(*e.parts, part(12, 13))), "p12: offsets that were decided before"),
        (lambda e: replace(e, parts=(*e.parts, part(24, 26))), "p24: offsets that were decided before"),
        (lambda e: replace(e, parts=(*e.parts, part(9, 10))), "p9: offsets that were decided before"),
        (lambda e: replace(e, gaps=OffsetSet.run(27, 29)), "the gaps: offsets that were decided before"),
        (lambda e: replace(e, dropped=OffsetSet.run(28, 30)), "what was dropped: offsets that were"),
        (lambda e: replace(e, parts=(*e.parts, part(50, 50))), "p50: no offsets"),
        (lambda e: replace(e, parts=(part(10, 19), *e.parts[1:])), "C passes undecided offsets"),
        (lambda e: replace(e, state=replace(e.state, decided=OffsetSet([31]))), "decided offsets of its state"),
        (lambda e: replace(e, parts=(part(10, 20, hour=HOUR), *e.parts[1:])), "p10 adds to a closed hour"),
    ],
)
def test_a_breach_of_a_rule_is_named(change: Callable[[Entry], Entry], complaint: str) -> None:
    with pytest.raises(LedgerError, match=f"entry . of app/. breaks the chain: .*{complaint}"):
        ledger.check_follows(BEFORE, change(AFTER))


def test_a_claim_changes_the_owner_and_the_epoch_and_no_state() -> None:
    claim = ledger.claim(BEFORE, owner="b", at=7, config="d")
    assert (claim.owner, claim.epoch, claim.at, claim.config) == ("b", 2, 7, "d")
    assert claim.state == BEFORE.state
    assert (claim.parts, claim.closed, len(claim.gaps), len(claim.dropped)) == ((), (), 0, 0)


def test_a_ledger_that_starts_above_offset_0_is_blind_for_what_came_before() -> None:
    entry = ledger.genesis(PID, window_ms=HOUR, start=17, owner="a", at=1, config="c")
    assert (entry.state.start, entry.state.position, entry.state.committed) == (17, 17, 17)
    assert [(blind.since, blind.until, blind.offset) for blind in entry.state.blind] == [(None, None, 17)]
    assert not ledger.genesis(PID, window_ms=HOUR, start=0, owner="a", at=1, config="c").state.blind


def test_a_partition_that_joins_has_closed_what_the_others_have() -> None:
    first = head_of(ledger.genesis(PID, window_ms=HOUR, start=0, owner="a", at=1, config="c"))
    joined = ledger.join(first, until=5 * HOUR, at=2)
    ledger.check_follows(first, joined)
    assert joined.closed[0].covers(5 * HOUR)
    assert joined.closed[0].covers(-HOUR)
    assert not joined.closed[0].covers(6 * HOUR)


# -- lost offsets ---------------------------------------------------------------------------------


def lost(until: int) -> Entry:
    entry = ledger.lose(BEFORE, until=until, owner="op", at=3, config="c", note="retention (K8)")
    ledger.check_follows(BEFORE, entry)
    return entry


def test_lost_offsets_are_gaps_except_those_that_were_decided() -> None:
    entry = lost(23)
    assert entry.gaps == OffsetSet.run(10, 20)
    assert entry.state.committed == 23
    assert entry.state.position == 30
    assert entry.state.decided == OffsetSet.run(23, 25)
    assert (entry.what, entry.epoch, entry.note) == ("gap", 2, "retention (K8)")


def test_lost_offsets_beyond_the_position_move_it() -> None:
    entry = lost(1000)
    assert entry.state.position == entry.state.committed == 1000
    assert not entry.state.decided


def test_hours_that_were_open_at_the_loss_are_never_called_complete() -> None:
    (blind,) = lost(1000).state.blind
    assert not blind.covers(HOUR), "it was closed before"
    assert blind.covers(2 * HOUR)
    assert blind.covers(99 * HOUR), "until a record says from when on"


def test_a_log_that_is_not_that_of_c_is_accepted_at_c_once() -> None:
    """K9: nothing is lost, and yet the broker refuses to read on at C with the epoch of its leader."""
    before = Head(replace(BEFORE.entry, state=replace(BEFORE.state, leader_epoch=5, decided=OffsetSet())), "the hash")
    entry = ledger.lose(before, until=10, owner="op", at=3, config="c", note="an unclean election")
    ledger.check_follows(before, entry)
    assert (entry.state.committed, entry.state.leader_epoch, entry.gaps) == (10, -1, OffsetSet())
    assert entry.state.blind[-1].covers(2 * HOUR)
    with pytest.raises(LedgerError, match="reading goes on at 10"):
        ledger.lose(Head(entry, "another"), until=10, owner="op", at=3, config="c", note="twice")


@pytest.mark.parametrize(("until", "epoch"), [(23, 5), (24, 5), (25, -1), (1000, -1)])
def test_a_changed_log_is_accepted_only_above_all_that_was_decided(until: int, epoch: int) -> None:
    before = Head(replace(BEFORE.entry, state=replace(BEFORE.state, leader_epoch=5)), "the hash")
    entry = ledger.lose(before, until=until, owner="op", at=3, config="c", note="an unclean election")
    assert entry.state.leader_epoch == epoch
    with pytest.raises(LedgerError, match="reading goes on at 10"):
        ledger.lose(before, until=10, owner="op", at=3, config="c", note="offsets 20 to 24 were decided")


@pytest.mark.parametrize("until", [0, 9, 10])
def test_nothing_is_lost_below_c(until: int) -> None:
    with pytest.raises(LedgerError, match="reading goes on at 10"):
        lost(until)
