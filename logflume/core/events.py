"""What happens to a partition in a worker (events), and what it asks for in return (actions).

``core/partition.py`` has the table that leads from the ones to the others.
"""

from __future__ import annotations

from dataclasses import dataclass

from logflume.core.ledger import Head
from logflume.core.router import Keep, Round, Rows
from logflume.errors import LogflumeError

# -- events ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Claimed:
    """The chain is ours: its newest entry, published."""

    head: Head


@dataclass(frozen=True, slots=True)
class Failed:
    """The claim or the decision in flight did not come about; trying again may help."""

    error: LogflumeError
    mono: float


@dataclass(frozen=True, slots=True)
class Overtaken:
    """Another owner extended the chain (K2, Z3): everything held is void."""

    error: LogflumeError
    mono: float


@dataclass(frozen=True, slots=True)
class Trouble:
    """A person is needed."""

    error: LogflumeError
    mono: float


@dataclass(frozen=True, slots=True)
class Records:
    rows: Rows
    now: int
    mono: float


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """The end of the log was reached: ``position`` is past the last record and any markers."""

    position: int
    mono: float


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passes. ``full``: the spool is, so nothing is read. Then nobody is idle (K15), and what is held is decided:
    were none of it due, reading would stand still until ``roll_every``.
    """

    now: int
    mono: float
    full: bool = False


@dataclass(frozen=True, slots=True)
class EndConfirmed:
    """The broker was asked just now: the end offset, or None when it did not answer."""

    position: int | None
    now: int
    mono: float


@dataclass(frozen=True, slots=True)
class Decided:
    head: Head


@dataclass(frozen=True, slots=True)
class Drain:
    """Finish what is held, then let go: a stop or a revocation with time left."""

    mono: float


@dataclass(frozen=True, slots=True)
class Revoke:
    """Let go at once."""


Event = Claimed | Failed | Overtaken | Trouble | Records | CaughtUp | Tick | EndConfirmed | Decided | Drain | Revoke


# -- actions --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Claim:
    """Read the chain, publish what is left, append a claim (S1)."""


@dataclass(frozen=True, slots=True)
class Start:
    """Read the log from here on."""

    offset: int


@dataclass(frozen=True, slots=True)
class Write:
    """Append rows of the batch in hand to parts in the spool (S2)."""

    keeps: list[Keep]


@dataclass(frozen=True, slots=True)
class Decide:
    """Upload the parts, decide, publish (S3 to S5); the answer is Decided, Failed, Overtaken or Trouble."""

    round: Round
    head: Head


@dataclass(frozen=True, slots=True)
class ConfirmEnd:
    """Ask the broker for the end offset; the answer is EndConfirmed."""


@dataclass(frozen=True, slots=True)
class Commit:
    """Tell Kafka C, with B in the metadata (S6). Nothing waits for it."""

    offset: int
    leader_epoch: int
    metadata: str


@dataclass(frozen=True, slots=True)
class Forget:
    """Stop reading and remove all spooled parts of this partition."""


@dataclass(frozen=True, slots=True)
class Report:
    """Say it to people; ``stopped`` when the partition stays where it is until someone acts."""

    error: LogflumeError
    stopped: bool = False


Action = Claim | Start | Write | Decide | ConfirmEnd | Commit | Forget | Report
