"""The result as JSON, for programs, and as a verdict."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from logflume.demo.account import Account
from logflume.demo.offsets import Ledger
from logflume.demo.run import Result
from logflume.errors import Incomplete


def of(result: Result) -> dict[str, Any]:
    account = result.account
    return {
        "directory": str(result.directory),
        "seed": result.seed,
        "elapsed_s": round(result.elapsed_s, 1),
        "workers_killed": len(result.killed),
        "proven": not problems(result),
        "account": {
            "sent": account.sent.total(),
            "in_hours": account.in_hours,
            "late": account.late,
            "quarantined": account.quarantined.total(),
            "quarantined_by_reason": dict(sorted(account.quarantined.items())),
            "lost": account.lost,
            "repeated": account.repeated,
            "misplaced": account.misplaced,
            "altered": account.altered,
        },
        "hours": [
            {
                "hour": _name(hour.hour),
                "complete": hour.complete,
                "records": hour.records,
                "files": len(hour.files),
                "bytes": hour.size,
            }
            for hour in account.hours
        ],
        "partitions": [_partition(ledger, end) for ledger, end in zip(result.ledgers, result.log_ends, strict=True)],
    }


def _partition(ledger: Ledger, end: int) -> dict[str, Any]:
    return {
        "partition": ledger.partition,
        "committed": ledger.committed,
        "log_end": end,
        "claimed_at": list(ledger.claims),
        "closed": [
            {
                "hour": _name(hour),
                "boundary": closed.boundary,
                "committed": closed.committed,
                "reason": closed.reason,
            }
            for hour, closed in sorted(ledger.closed.items())
        ],
    }


def _name(hour: int) -> str:
    return datetime.fromtimestamp(hour / 1000, UTC).strftime("%Y-%m-%dT%H")


def problems(result: Result) -> list[str]:
    """What is not as promised; nothing, if the demo shows what it is to show."""
    account = result.account
    wrong = [
        f"{name} {times:,}"
        for name, times in (
            ("lost", account.lost),
            ("repeated", account.repeated),
            ("misplaced", account.misplaced),
            ("altered", account.altered),
        )
        if times
    ]
    complete = {hour.hour for hour in account.hours if hour.complete}
    wrong += [f"hour {_name(hour)} has no _SUCCESS" for hour in result.hours if hour not in complete]
    return wrong + _untrue(account)


def _untrue(account: Account) -> list[str]:
    return [
        f"hour {_name(hour.hour)} has {hour.records:,} records, and its _SUCCESS says {hour.promised:,}"
        for hour in account.hours
        if hour.promised is not None and hour.promised != hour.records
    ]


def judge(result: Result) -> None:
    """Raises Incomplete with everything that is wrong."""
    wrong = problems(result)
    if wrong:
        raise Incomplete(f"the account does not close: {'; '.join(wrong)}", hint="this is a bug; please report it")
