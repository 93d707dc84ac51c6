"""Arbitrary logs, batches, rolls, failures and crashes, against an oracle that knows none of them.

A machine plays broker, ledger and several owners of one partition. What the ledger says in the end is
compared with ``tests.core.oracle``, which computes from the log alone. Hypothesis drives it to find the
smallest failure; a seeded walk drives the same machine further, since drawing costs Hypothesis more than
the steps themselves.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from logflume.core import codec, ledger
from logflume.core.events import (
    CaughtUp,
    Claim,
    Claimed,
    ConfirmEnd,
    Decide,
    Decided,
    Drain,
    EndConfirmed,
    Failed,
    Forget,
    Overtaken,
    Records,
    Revoke,
    Start,
    Tick,
    Trouble,
    Write,
)
from logflume.core.ledger import Entry, Head, Part
from logflume.core.partition import Partition, Phase
from logflume.core.router import Round, Router, Rows, Rules
from logflume.errors import Fenced, StoreError
from logflume.model import Kind, OffsetSet, PartitionId, Reason
from tests.core.oracle import (
    Fate,
    Item,
    accepted,
    boundaries_in,
    boundary,
    fates,
    fates_in,
    hour_of,
    watermarks,
)

PID = PartitionId("app", "VGhlVG9waWNJZA", 3)
BASE = 50_000
READS = (Phase.READING, Phase.DECIDING, Phase.RETRYING)

#: how far an event time lies from the latest one: in order, out of order, late, a jump, the future
STEPS = st.one_of(st.integers(-30, 60), st.integers(-400, 250), st.sampled_from([-100, 100, 1000, 5000, -45_000]))
#: Kafka's time against the event time: below −max_future the record is one from the future
DELAYS = st.one_of(st.just(0), st.integers(-80, 200), st.sampled_from([-50, -51]))
#: who calls a record future: Kafka's time, the clock, or the clock for records that have no Kafka time
JUDGES = ["kafka", "clock", "some"]
RULES = st.builds(
    Rules,
    window_ms=st.just(100),
    lateness_ms=st.sampled_from([0, 1, 30, 100, 250]),
    idle_grace_ms=st.just(2000),
    max_future_ms=st.just(50),
    min_time_ms=st.just(10_000),
    late=st.sampled_from(["side", "append", "drop"]),
    roll_every_s=st.sampled_from([5.0, 60.0]),
    roll_bytes=st.sampled_from([60, 1 << 20]),
)


def rows_of(items: list[tuple[int, Item]], next_offset: int) -> Rows:
    return Rows(
        offsets=[offset for offset, _ in items],
        times=[item.time for _, item in items],
        kafka_times=[item.kafka_time for _, item in items],
        rejects={i: Reason.BAD_JSON for i, (_, item) in enumerate(items) if item.reject},
        size=10 * len(items),
        next_offset=next_offset,
    )


def entry_of(head: Head, round_: Round) -> Entry:
    """As commit builds it, with files that exist only by name."""
    parts = tuple(
        Part(part.kind, part.hour, f"{part.kind}/{part.first}", "", 1, 1, len(part.offsets), "", part.offsets,
             part.min_time, part.max_time, part.reasons)
        for part in round_.parts
    )  # fmt: skip
    return replace(
        head.entry,
        seq=head.entry.seq + 1,
        prev=head.sha256,
        what="decide",
        state=round_.state,
        parts=parts,
        closed=round_.closed,
        gaps=round_.gaps,
        dropped=round_.dropped,
    )


class Chain(list[Head]):
    """A ledger in memory; every entry passes through its bytes and is checked on the way in."""

    def add(self, entry: Entry) -> Head:
        if self:
            ledger.check_follows(self[-1], entry)
        data = codec.encode(entry)
        head = codec.decode(data, pid=PID, seq=len(self))
        assert head == Head(entry, hashlib.sha256(data).hexdigest())
        self.append(head)
        return head


class Machine(RuleBasedStateMachine):
    """Everything that moves by itself is off: no idle closing, no clock. See the subclass for those."""

    clocks = False

    @initialize(rules=RULES, judge=st.sampled_from(JUDGES))
    def begin(self, rules: Rules, judge: str) -> None:
        self.topic = rules if self.clocks else replace(rules, idle_grace_ms=10**15)
        self.judge = judge if self.clocks else "kafka"
        if self.judge == "clock":
            self.topic = replace(self.topic, future_against="clock", max_future_ms=600)
        self.log: list[Item] = []
        self.chain = Chain()
        self.latest = BASE
        self.now, self.mono = BASE, 0.0
        self.clock = (self.now, self.now)
        self.owners = 0
        self.sent: Entry | None = None
        self.born()

    # -- the owner and what it asks for ---------------------------------------------------------------

    def born(self) -> None:
        """A new process, or a new assignment: knows only the ledger."""
        self.owners += 1
        self.partition = Partition(self.topic)
        self.position: int | None = None
        self.spool: dict[int, list[int]] = {}
        self.deciding: Decide | None = None
        self.sent = None
        self.asked: list[int] = []

    def send(self, event: object, batch: list[int] | None = None) -> None:
        for action in self.partition.handle(event):  # type: ignore[arg-type]
            match action:
                case Start(offset):
                    self.position = offset
                case Write(keeps):
                    assert batch is not None
                    for keep in keeps:
                        rows = range(len(batch))[keep.rows] if isinstance(keep.rows, slice) else keep.rows
                        self.spool.setdefault(keep.part, []).extend(batch[i] for i in rows)
                        assert keep.reasons is None or len(keep.reasons) == len(keep.rows)  # type: ignore[arg-type]
                case Decide():
                    self.deciding = action
                    for part in action.round.parts:
                        assert self.spool[part.serial] == sorted(part.offsets), "the file and its offsets differ"
                        assert sum(part.reasons.values()) == len(part.offsets) * (part.kind is Kind.QUARANTINE)
                case ConfirmEnd():
                    self.asked.append(self.partition.life)
                case Forget():
                    self.spool.clear()
                    self.position = self.deciding = self.sent = None
                case Claim():
                    self.position = None

    @property
    def reading(self) -> bool:
        return self.partition.phase in READS and self.position is not None

    # -- the log ------------------------------------------------------------------------------------

    @rule(
        steps=st.lists(
            st.tuples(STEPS, DELAYS, st.sampled_from(["record"] * 8 + ["reject", "gap", "gap"])), min_size=1, max_size=6
        )
    )
    def produce(self, steps: list[tuple[int, int, str]]) -> None:
        for step, delay, what in steps:
            time = self.latest + step
            timeless = self.judge == "some" and delay % 4 == 0
            item = Item(time, -1 if timeless else time + delay, what == "reject", what == "gap")
            if time <= self.now + 2000 if self.clocks else accepted(item, self.topic):
                self.latest = max(self.latest, time)
            self.log.append(item)

    @precondition(lambda self: self.reading)
    @rule(count=st.integers(1, 12), trailing=st.integers(0, 3), again=st.sampled_from([0, 0, 0, 1, 5]))
    def read(self, count: int, trailing: int, again: int) -> None:
        """A batch from the position, perhaps with some repeated (K14), perhaps past gaps that follow."""
        assert self.position is not None
        left = [i for i in range(self.position, len(self.log)) if not self.log[i].gap]
        if not left:
            return
        end = left[:count][-1] + 1
        taken = [i for i in range(max(0, self.position - again), end) if not self.log[i].gap]
        while trailing and end < len(self.log) and self.log[end].gap:
            end, trailing = end + 1, trailing - 1
        rows = rows_of([(i, self.log[i]) for i in taken], end)
        self.position = end
        self.send(Records(rows, self.now, self.mono), taken)

    @precondition(lambda self: self.reading)
    @rule()
    def reach_the_end(self) -> None:
        assert self.position is not None
        if all(item.gap for item in self.log[self.position :]):
            self.position = len(self.log)
            self.send(CaughtUp(self.position, self.mono))

    # -- time -----------------------------------------------------------------------------------------

    @rule(
        seconds=st.sampled_from([0.0, 0.4, 1.0, 3.0, 6.0]),
        jump=st.sampled_from([0, 0, 0, -500, 2000]),
        full=st.sampled_from([False, False, False, True]),
    )
    def tick(self, seconds: float, jump: int, full: bool = False) -> None:
        self.mono += seconds
        self.now += int(seconds * 1000) + jump * self.clocks
        self.clock = (min(self.now, self.clock[0]), max(self.now, self.clock[1]))
        if self.partition.phase is not Phase.GONE:
            self.send(Tick(self.now, self.mono, full))

    # -- the store --------------------------------------------------------------------------------------

    @precondition(lambda self: self.partition.phase is Phase.CLAIMING)
    @rule(fails=st.sampled_from([False, False, False, True]))
    def claim(self, fails: bool) -> None:
        if fails:
            self.send(Failed(StoreError("the claim failed"), self.mono))
            return
        self.send(Claimed(self.claimed()))

    def claimed(self) -> Head:
        owner = f"owner {self.owners}"
        if not self.chain:
            return self.chain.add(ledger.genesis(PID, window_ms=100, start=0, owner=owner, at=self.now, config="c"))
        return self.chain.add(ledger.claim(self.chain[-1], owner=owner, at=self.now, config="c"))

    @precondition(lambda self: self.deciding is not None)
    @rule(outcome=st.sampled_from(["done", "done", "done", "failed", "reply lost", "fenced", "trouble"]))
    def answer(self, outcome: str) -> None:
        if self.partition.phase not in (Phase.DECIDING, Phase.DRAINING):
            return
        assert self.deciding is not None
        mine = entry_of(self.deciding.head, self.deciding.round)
        if outcome == "fenced" and self.sent is None:
            self.chain.add(ledger.claim(self.chain[-1], owner="somebody else", at=self.now, config="c"))
        landed = self.sent is not None
        assert self.sent in (None, mine), "an entry was sent again with other words"
        if not landed and self.chain[-1] == self.deciding.head and outcome in ("done", "reply lost"):
            self.chain.add(mine)
            landed, self.sent = True, mine
        if outcome in ("reply lost", "failed"):
            self.send(Failed(StoreError("no answer"), self.mono))
        elif outcome == "trouble":
            self.send(Trouble(StoreError("something is odd"), self.mono))
        elif landed:
            self.deciding = self.sent = None
            self.send(Decided(self.chain[-1]))
        else:
            self.send(Overtaken(Fenced("the entry is another's"), self.mono))

    @precondition(lambda self: self.asked)
    @rule(known=st.booleans())
    def confirm_end(self, known: bool) -> None:
        if self.asked.pop() == self.partition.life and self.reading:
            self.send(EndConfirmed(len(self.log) if known else None, self.now, self.mono))

    # -- the end of an owner ------------------------------------------------------------------------------

    @rule(landed=st.booleans())
    def crash(self, landed: bool) -> None:
        if landed and self.deciding is not None and self.sent is None and self.chain[-1] == self.deciding.head:
            self.chain.add(entry_of(self.deciding.head, self.deciding.round))
        self.born()

    @rule(event=st.sampled_from(["drain", "revoke"]))
    def let_go(self, event: str) -> None:
        self.send(Drain(self.mono) if event == "drain" else Revoke())

    @precondition(lambda self: self.partition.phase is Phase.GONE)
    @rule()
    def come_back(self) -> None:
        self.born()

    # -- what must hold -----------------------------------------------------------------------------------

    def teardown(self) -> None:
        if not hasattr(self, "chain"):
            return
        self.crash(landed=True)
        self.claim(fails=False)
        self.read(count=len(self.log) + 1, trailing=len(self.log), again=0)
        self.reach_the_end()
        self.let_go("drain")
        while self.partition.phase is Phase.DRAINING:
            self.answer("done")
        assert self.partition.phase is Phase.GONE
        self.check()

    def check(self) -> None:
        found = fates_in(self.chain)
        assert found == fates(self.log, self.topic)
        self.check_boundaries()
        self.check_committed()
        self.check_replays()

    def check_boundaries(self) -> None:
        marks = watermarks([item.time if accepted(item, self.topic) else None for item in self.log])
        for hour in {hour_of(item.time, self.topic) for item in self.log}:
            expected = boundary(hour, marks, self.topic)
            found = boundaries_in(self.chain, hour, self.topic)
            assert found == ([] if expected is None else [(expected, "watermark")])
        for head in self.chain:
            expected = marks[head.state.committed - 1] if head.state.committed else None
            assert head.state.watermark == expected, "the watermark at C"

    def check_committed(self) -> None:
        """C never passes an offset without a fate, and no hour gets a part after its closing."""
        fated, until = OffsetSet(), None
        for head in self.chain:
            entry, state = head.entry, head.state
            for part in entry.parts:
                fated = fated | part.offsets
                assert not (until is not None and part.kind is Kind.HOUR and part.hour + 100 <= until), "reopened"
            fated = fated | entry.gaps | entry.dropped
            assert not OffsetSet.run(0, state.committed) - fated, "C has passed an undecided offset"
            above = fated.copy()
            above.remove_below(state.committed)
            assert state.decided == above
            for closing in entry.closed:
                assert closing.since == until
                until = closing.until
            assert state.frontier == until

    def check_replays(self) -> None:
        """From any entry on, reading everything at once comes to the same."""
        expected = fates(self.log, self.topic)
        for i, head in enumerate(self.chain):
            router = Router(self.topic, head.state)
            items = [(o, item) for o, item in enumerate(self.log) if o >= head.state.committed and not item.gap]
            if items:
                router.route(rows_of(items, items[-1][0] + 1), now=0, mono=0.0)
            router.caught_up(len(self.log))
            last = entry_of(head, router.cut(0.0, seq=head.entry.seq + 1, everything=True))
            ledger.check_follows(head, last)
            assert fates_in([*self.chain[: i + 1], Head(last, "")]) == expected


class ClockMachine(Machine):
    """With idle closings, and records that only the clock can call future: then the ledger has to agree with itself."""

    clocks = True

    def check(self) -> None:
        found = fates_in(self.chain)
        assert sorted(found) == list(range(len(self.log)))
        for offset, fate in found.items():
            self.check_fate(offset, fate)
        self.check_committed()

    def check_fate(self, offset: int, fate: Fate) -> None:
        item, hour = self.log[offset], hour_of(self.log[offset].time, self.topic)
        closings = boundaries_in(self.chain, hour, self.topic)
        assert len(closings) <= 1, "closed twice"
        closed_at = closings[0][0] if closings else None
        slow, fast = self.clock
        if item.gap:
            assert fate.name == "gap"
        elif fate.name == Kind.QUARANTINE:
            assert fate.hour == hour_of(max(item.kafka_time, 0), self.topic)
            assert not accepted(item, self.topic, now=slow), "no clock ever called it wrong"
        else:
            assert accepted(item, self.topic, now=fast), "every clock called it wrong"
            late = Fate("dropped") if self.topic.late == "drop" else Fate(Kind.LATE, hour)
            assert fate == (Fate(Kind.HOUR, hour) if closed_at is None or offset < closed_at else late)
        if closings and self.judge == "kafka":
            marks = watermarks([it.time if accepted(it, self.topic) else None for it in self.log])
            pure = boundary(hour, marks, self.topic)
            if closings[0][1] == "watermark":
                assert closed_at == pure
            else:
                assert pure is None or closings[0][0] <= pure, "the clock closed what the log had closed before"


EXAMPLES = settings().max_examples
TestLogs = Machine.TestCase
TestLogsWithClocks = ClockMachine.TestCase
TestLogs.settings = TestLogsWithClocks.settings = settings(max_examples=max(20, EXAMPLES // 10), stateful_step_count=30)


def walk(machine: Machine, seed: int) -> None:
    """The machine's rules in random order, weighted so that most steps make progress."""
    rng = random.Random(seed)
    machine.begin(
        rules=Rules(
            window_ms=100,
            lateness_ms=rng.choice([0, 1, 30, 100, 250]),
            idle_grace_ms=2000,
            max_future_ms=50,
            min_time_ms=10_000,
            late=rng.choice(["side", "append", "drop"]),
            roll_every_s=rng.choice([5.0, 60.0]),
            roll_bytes=rng.choice([60, 1 << 20]),
        ),
        judge=rng.choice(JUDGES),
    )
    calm = rng.random() < 0.4
    for _ in range(rng.choice([20, 60, 150])):
        step(machine, rng, calm)
    machine.teardown()


WEIGHTS = [6, 10, 2, 6, 10, 3, 0.6, 0.2, 0.2, 2]


def step(machine: Machine, rng: random.Random, calm: bool) -> None:
    match rng.choices(range(len(WEIGHTS)), WEIGHTS)[0]:
        case 0:
            machine.produce(steps=[(distance(rng, calm), delay(rng), kind(rng)) for _ in range(rng.randint(1, 6))])
        case 1 if machine.reading:
            machine.read(rng.randint(1, 12), rng.randint(0, 3), rng.choice([0, 0, 0, 1, 5]))
        case 2 if machine.reading:
            machine.reach_the_end()
        case 3:
            machine.tick(rng.choice([0.0, 0.4, 1.0, 3.0, 6.0]), rng.choice([0, 0, 0, -500, 2000]), rng.random() < 0.1)
        case 4 if machine.partition.phase is Phase.CLAIMING:
            machine.claim(fails=rng.random() < 0.2)
        case 4 if machine.partition.phase is Phase.GONE:
            machine.come_back()
        case 4 if machine.deciding is not None:
            machine.answer(rng.choice(["done"] * 16 + ["failed", "failed", "reply lost", "fenced", "trouble"]))
        case 5 if machine.asked:
            machine.confirm_end(known=rng.random() < 0.8)
        case 6:
            machine.crash(landed=rng.random() < 0.5)
        case 7:
            machine.let_go("drain")
        case 8:
            machine.let_go("revoke")
        case 9 if machine.reading and machine.clocks:
            machine.read(12, 3, 0)
            machine.reach_the_end()
            machine.tick(3.0, rng.choice([0, 2000]), full=False)


def distance(rng: random.Random, calm: bool) -> int:
    if calm:
        return rng.randint(-60, 10)
    return rng.choice([rng.randint(-30, 60), rng.randint(-400, 250), rng.choice([-100, 100, 1000, 5000, -45_000])])


def delay(rng: random.Random) -> int:
    return rng.choice([0, rng.randint(-80, 200), -50, -51])


def kind(rng: random.Random) -> str:
    return rng.choice(["record"] * 8 + ["reject", "gap", "gap"])


@pytest.mark.parametrize("machine", [Machine, ClockMachine])
def test_every_offset_has_its_one_right_fate_whatever_happens_on_the_way(machine: type[Machine]) -> None:
    start = random.SystemRandom().randrange(2**32)
    for seed in range(start, start + EXAMPLES):
        try:
            walk(machine(), seed)
        except BaseException as error:
            error.add_note(f"again with: walk({machine.__name__}(), {seed})")
            raise
