"""The life of one partition in one worker: events in, actions out, one transition table.

The table is the whole control flow. A pair (phase, event) that is not in it is a bug of the caller and
raises IllegalEvent; a handler may only end in a phase that its row names. The README's diagram is
generated from it, and a test visits every phase × event.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from logflume.core.events import (
    Action,
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
from logflume.core.layout import hour_name
from logflume.core.ledger import Head
from logflume.core.router import Round, Router, Rules
from logflume.errors import LedgerError, LogflumeError

#: seconds before a failed claim or decision is tried again: doubled each time, up to the last one
RETRY_FIRST_S, RETRY_LAST_S = 0.5, 30.0
#: seconds after which a stopped partition is looked at again
STOPPED_S = 30.0
#: Kafka refuses commit metadata above 4,096 bytes (offset.metadata.max.bytes); the client adds one of its own
METADATA_BYTES = 4095


class Phase(StrEnum):
    CLAIMING = "claiming"
    WAITING = "waiting"
    READING = "reading"
    DECIDING = "deciding"
    RETRYING = "retrying"
    DRAINING = "draining"
    STOPPED = "stopped"
    GONE = "gone"


class IllegalEvent(Exception):
    """The caller sent an event that cannot happen in this phase."""


class Partition:
    """A partition from assignment to release. ``handle`` is the only way in.

    ``life`` counts the times everything held was dropped: the caller tags what it does for an action with
    it, and throws away answers that come back to another life.
    """

    def __init__(self, rules: Rules, *, first_serial: int = 0) -> None:
        self.rules = rules
        self.phase = Phase.CLAIMING
        self.head: Head | None = None
        self.router: Router | None = None
        self.error: LogflumeError | None = None
        self.life = 0
        self._round: Round | None = None
        self._serial = first_serial
        self._retry_at = 0.0
        self._delay_s = RETRY_FIRST_S
        self._caught_up: int | None = None
        self._active = 0.0
        self._confirming = False

    def handle(self, event: Event) -> list[Action]:
        """Raises IllegalEvent for a pair that the table does not have."""
        rule = TABLE.get((self.phase, type(event)))
        if rule is None:
            raise IllegalEvent(f"{type(event).__name__} while {self.phase}")
        before = self.phase
        actions = rule.handler(self, event)
        if self.phase not in rule.ends:
            raise IllegalEvent(f"{type(event).__name__} while {before} ended in {self.phase}")
        return actions

    @property
    def reads(self) -> Router:
        """The router; only in phases after a claim."""
        if self.router is None:
            raise IllegalEvent(f"no router while {self.phase}")
        return self.router

    @property
    def serials(self) -> int:
        """The next free part serial, for the partition's next life in this process."""
        return self._serial if self.router is None else self.router.serials

    # -- handlers: each is one row of the table or more --------------------------------------------

    def _ignore(self, event: Event) -> list[Action]:
        return []

    def _claimed(self, event: Claimed) -> list[Action]:
        self.head = event.head
        self.router = Router(self.rules, event.head.state, first_serial=self._serial)
        # The pause before the next try stays as it is until something is decided: a claim is an entry, and where none
        # of them leads to a decision (the spool's disk is full, P3) they must not come twice a second.
        self.phase, self.error = Phase.READING, None
        self._caught_up, self._confirming = None, False
        return [Start(event.head.state.committed)]

    def _claim_failed(self, event: Failed) -> list[Action]:
        self.phase = Phase.WAITING
        return self._later(event.error, event.mono)

    def _later(self, error: LogflumeError, mono: float) -> list[Action]:
        self.error = error
        self._retry_at = mono + self._delay_s
        self._delay_s = min(self._delay_s * 2, RETRY_LAST_S)
        return [Report(error)]

    def _claim_again(self, event: Tick) -> list[Action]:
        if event.mono < self._retry_at:
            return []
        self.phase = Phase.CLAIMING
        return [Claim()]

    def _records(self, event: Records) -> list[Action]:
        self._active, self._caught_up = event.mono, None
        try:
            keeps = self.reads.route(event.rows, now=event.now, mono=event.mono)
        except LedgerError as error:
            return self._stop(Trouble(error, event.mono))
        return [Write(keeps)] if keeps else []

    def _reached_end(self, event: CaughtUp) -> list[Action]:
        self.reads.caught_up(event.position)
        if self._caught_up is None:
            self._active = event.mono
        self._caught_up = event.position
        return []

    def _tick(self, event: Tick) -> list[Action]:
        if self.reads.due(event.mono):
            return self._decide(event.mono)
        if event.full:
            return self._decide(event.mono, everything=True) if self.reads.open else []
        if self._is_idle(event) and not self._confirming:
            self._confirming = True
            return [ConfirmEnd()]
        return []

    def _is_idle(self, event: Tick | EndConfirmed) -> bool:
        router = self.reads
        if self._caught_up != router.position or event.mono - self._active < self.rules.idle_grace_ms / 1000:
            return False
        return router.frontier is None or router.idle_until(event.now) > router.frontier

    def _end_confirmed(self, event: EndConfirmed) -> list[Action]:
        self._confirming = False
        if self.phase is not Phase.READING or event.position is None:
            return []
        # Records may have come since the question was asked.
        if event.position != self.reads.position or not self._is_idle(event):
            return []
        return self._decide(event.mono) if self.reads.close_idle(event.now) else []

    def _decide(self, mono: float, *, everything: bool = False) -> list[Action]:
        if self.head is None:
            raise IllegalEvent(f"no ledger while {self.phase}")
        self._round = self.reads.cut(mono, seq=self.head.entry.seq + 1, everything=everything)
        if self.phase is not Phase.DRAINING:
            self.phase = Phase.DECIDING
        return [self._decision()]

    def _decision(self) -> Decide:
        if self._round is None or self.head is None:
            raise IllegalEvent(f"nothing to decide while {self.phase}")
        return Decide(self._round, self.head)

    def _decided(self, event: Decided) -> list[Action]:
        self.head, self._round = event.head, None
        self.phase, self.error, self._delay_s = Phase.READING, None, RETRY_FIRST_S
        return [commit_of(event.head)]

    def _decide_failed(self, event: Failed) -> list[Action]:
        self.phase = Phase.RETRYING
        return self._later(event.error, event.mono)

    def _decide_again(self, event: Tick) -> list[Action]:
        if event.mono < self._retry_at:
            return []
        self.phase = Phase.DECIDING
        return [self._decision()]

    def _overtaken(self, event: Overtaken) -> list[Action]:
        self._drop()
        self.phase = Phase.WAITING
        return [Forget(), *self._later(event.error, event.mono)]

    def _stop(self, event: Trouble) -> list[Action]:
        self._drop()
        self.phase, self.error, self._retry_at = Phase.STOPPED, event.error, event.mono + STOPPED_S
        return [Forget(), Report(event.error, stopped=True)]

    def _drop(self) -> None:
        self._serial = self.serials
        self.router = self._round = None
        self.life += 1

    def _drain(self, event: Drain) -> list[Action]:
        router = self.reads
        if not (router.open or router.closed or router.gaps or router.dropped):
            return self._release()
        self.phase = Phase.DRAINING
        return self._decide(event.mono, everything=True)

    def _drain_later(self, event: Drain) -> list[Action]:
        self.phase = Phase.DRAINING
        return []

    def _drained(self, event: Decided) -> list[Action]:
        self.head, self._round = event.head, None
        commit = commit_of(event.head)
        router = self.reads
        if router.open or router.closed or router.gaps or router.dropped:
            return [commit, *self._decide(0.0, everything=True)]
        return [commit, *self._release()]

    def _release(self, event: Event | None = None) -> list[Action]:
        self._drop()
        self.phase = Phase.GONE
        return [Forget()]


def commit_of(head: Head) -> Commit:
    """C for Kafka, with the boundaries of the last hours closed as JSON in the metadata."""
    state, entry = head.state, head.entry
    window = state.window_ms
    last = [[hour_name(closing.until - window, window), closing.boundary] for closing in entry.closed[-16:]]
    body = json.dumps({"seq": entry.seq, "B": last}, separators=(",", ":"))
    if len(body) > METADATA_BYTES:
        body = json.dumps({"seq": entry.seq})
    return Commit(state.committed, state.leader_epoch, body)


@dataclass(frozen=True, slots=True)
class Rule:
    """What happens on an event, and the phases it may end in."""

    handler: Callable[..., list[Action]]
    ends: tuple[Phase, ...]


_P = Partition


def _rows(phase: Phase, rules: dict[type, Rule], *, ignored: tuple[type, ...]) -> dict[tuple[Phase, type], Rule]:
    stay = {event: Rule(_P._ignore, (phase,)) for event in ignored}
    return {(phase, event): rule for event, rule in (rules | stay).items()}


#: what the outside may send at any time, whatever the phase
_OUTSIDE = (Records, CaughtUp, Tick, Trouble, Drain, Revoke)
_GIVE_UP: dict[type, Rule] = {
    Trouble: Rule(_P._stop, (Phase.STOPPED,)),
    Drain: Rule(_P._release, (Phase.GONE,)),
    Revoke: Rule(_P._release, (Phase.GONE,)),
}

TABLE: dict[tuple[Phase, type], Rule] = {
    # a claim is in flight; nothing is read
    **_rows(
        Phase.CLAIMING,
        {
            Claimed: Rule(_P._claimed, (Phase.READING,)),
            Failed: Rule(_P._claim_failed, (Phase.WAITING,)),
            Overtaken: Rule(_P._claim_failed, (Phase.WAITING,)),
            **_GIVE_UP,
        },
        ignored=(Records, CaughtUp, Tick),
    ),
    # not ours, yet or any more: claim again after a while
    **_rows(
        Phase.WAITING,
        {Tick: Rule(_P._claim_again, (Phase.WAITING, Phase.CLAIMING)), **_GIVE_UP},
        ignored=(Records, CaughtUp),
    ),
    # reading, nothing in flight
    **_rows(
        Phase.READING,
        {
            Records: Rule(_P._records, (Phase.READING, Phase.STOPPED)),
            CaughtUp: Rule(_P._reached_end, (Phase.READING,)),
            Tick: Rule(_P._tick, (Phase.READING, Phase.DECIDING)),
            EndConfirmed: Rule(_P._end_confirmed, (Phase.READING, Phase.DECIDING)),
            **_GIVE_UP,
            Drain: Rule(_P._drain, (Phase.DRAINING, Phase.GONE)),
        },
        ignored=(),
    ),
    # reading, with a decision in flight
    **_rows(
        Phase.DECIDING,
        {
            Records: Rule(_P._records, (Phase.DECIDING, Phase.STOPPED)),
            CaughtUp: Rule(_P._reached_end, (Phase.DECIDING,)),
            EndConfirmed: Rule(_P._end_confirmed, (Phase.DECIDING,)),
            Decided: Rule(_P._decided, (Phase.READING,)),
            Failed: Rule(_P._decide_failed, (Phase.RETRYING,)),
            Overtaken: Rule(_P._overtaken, (Phase.WAITING,)),
            **_GIVE_UP,
            Drain: Rule(_P._drain_later, (Phase.DRAINING,)),
        },
        ignored=(Tick,),
    ),
    # reading, and the same decision is tried again after a while
    **_rows(
        Phase.RETRYING,
        {
            Records: Rule(_P._records, (Phase.RETRYING, Phase.STOPPED)),
            CaughtUp: Rule(_P._reached_end, (Phase.RETRYING,)),
            EndConfirmed: Rule(_P._end_confirmed, (Phase.RETRYING,)),
            Tick: Rule(_P._decide_again, (Phase.RETRYING, Phase.DECIDING)),
            **_GIVE_UP,
        },
        ignored=(),
    ),
    # reading is over, the last decisions run; any trouble only means that a successor reads it again
    **_rows(
        Phase.DRAINING,
        {
            Decided: Rule(_P._drained, (Phase.DRAINING, Phase.GONE)),
            Failed: Rule(_P._release, (Phase.GONE,)),
            Overtaken: Rule(_P._release, (Phase.GONE,)),
            **_GIVE_UP,
            Trouble: Rule(_P._release, (Phase.GONE,)),
        },
        ignored=(Records, CaughtUp, EndConfirmed, Tick, Drain),
    ),
    # a person is needed; it is looked at again from time to time, since the person acts on the ledger
    **_rows(
        Phase.STOPPED,
        {
            Tick: Rule(_P._claim_again, (Phase.STOPPED, Phase.CLAIMING)),
            Drain: Rule(_P._release, (Phase.GONE,)),
            Revoke: Rule(_P._release, (Phase.GONE,)),
        },
        ignored=(Records, CaughtUp, Trouble),
    ),
    **_rows(Phase.GONE, {}, ignored=_OUTSIDE),
}
