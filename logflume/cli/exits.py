"""The table of exit codes, generated from the error tree, so that documents cannot say anything else."""

from __future__ import annotations

import re
from collections.abc import Iterator

from logflume import errors
from logflume.errors import LogflumeError

_OTHERS = {
    0: "It worked; `check`: no error; `run`: it was told to stop and stopped in order.",
    130: "Interrupted by Ctrl-C.",
}


def exit_codes() -> dict[int, str]:
    """Exit code → what it means, in order."""
    meanings = dict(_OTHERS)
    for error in _tree(LogflumeError):
        # a code belongs to the class that sets it; its subclasses only say more exactly what failed
        if "exit_code" in vars(error):
            before = meanings.get(error.exit_code, "")
            meanings[error.exit_code] = f"{before} {_first_sentence(error)}".strip()
    meanings[LogflumeError.exit_code] = "Another failure; `run`: a worker had to be killed when it stopped."
    return dict(sorted(meanings.items()))


def table() -> str:
    """The table for the README, in Markdown."""
    rows = [f"| {code} | {meaning} |" for code, meaning in exit_codes().items()]
    return "\n".join(["| exit code | meaning |", "|---|---|", *rows]) + "\n"


def _tree(error: type[LogflumeError]) -> Iterator[type[LogflumeError]]:
    if error.__module__ == errors.__name__:
        yield error
    for one in error.__subclasses__():
        yield from _tree(one)


def _first_sentence(error: type[LogflumeError]) -> str:
    """What the class is for, without what only its callers need: what stands after a semicolon, and rows of the
    fault catalogue.
    """
    first = (error.__doc__ or "").strip().splitlines()[0].split(";")[0].rstrip(".")
    return re.sub(r" \([A-Z]\d+.*?\)", "", first).replace("``", "`") + "."
