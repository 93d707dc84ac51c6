"""The checker's account of one topic."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Report:
    """The account. Lists hold what is wrong, the numbers what is there."""

    topic: str
    acknowledged: int = 0
    hour: int = 0
    late: int = 0
    quarantined: dict[str, int] = field(default_factory=dict)
    dropped: int = 0
    pending: int = 0
    lost: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    misplaced: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    early: list[str] = field(default_factory=list)
    unmarked: list[str] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    tmp: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    late_by_clock: int = 0  # in time by the log alone, late only since an idle partition was closed
    complete: list[int] = field(default_factory=list)
    incomplete: list[int] = field(default_factory=list)
    hour_files: dict[int, int] = field(default_factory=dict)
    by_partition: dict[int, int] = field(default_factory=dict)  # of those in hour files
    pieces: int = 0
    claims: int = 0
    ends: dict[int, int] = field(default_factory=dict)
    committed: dict[int, int] = field(default_factory=dict)

    def __str__(self) -> str:
        counts = (
            f"{self.topic}: acknowledged {self.acknowledged}, hour {self.hour}, late {self.late}, quarantined "
            f"{sum(self.quarantined.values())}, dropped {self.dropped}, pending {self.pending}; lost "
            f"{len(self.lost)}, repeated {len(self.repeated)}, misplaced {len(self.misplaced)}, early markers "
            f"{len(self.early)}; {len(self.complete)} hours complete from {self.pieces} parts, "
            f"{self.claims} owners, {len(self.tmp)} files in tmp"
        )
        lists = ("lost", "repeated", "misplaced", "unknown", "early", "unmarked", "leftovers", "problems")
        wrong = [f"  {name}: {getattr(self, name)[:10]}" for name in lists if getattr(self, name)]
        return "\n".join([counts, *wrong])

    def clean(self, *, crashed: bool, pending: bool = False) -> None:
        """Assert that every record is where it has to be, and nothing else is.

        ``crashed``: somebody was killed or fenced, which explains uploads that no decision names.
        ``pending``: records may be undecided still, or decided in hours that are not complete yet.
        """
        print(self)  # noqa: T201 (shown by pytest when a test fails)
        wrong = [self.lost, self.repeated, self.misplaced, self.unknown, self.early, self.leftovers, self.problems]
        assert not any(wrong), str(self)
        if not pending:
            assert self.pending == 0, str(self)
            assert not self.unmarked, str(self)
        if not crashed:
            assert not self.tmp, f"{self}\n  tmp: {self.tmp[:10]}"
