"""The one error tree.

Each class says three things about a failure, so that no caller has to guess from text:

- ``exit_code``: what a command that ends with it returns (documented in the README);
- ``retry``: whether the same call may succeed later without anybody doing something;
- ``hint``: what a person can do.

Messages are lower case: what failed, on what. The hint is printed on a line of its own.
"""

from __future__ import annotations


class LogflumeError(Exception):
    """Root of all errors that logflume raises on purpose."""

    exit_code = 1
    retry = False
    hint = ""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = hint


class ConfigError(LogflumeError):
    """The configuration cannot be used; ``problems`` lists every reason, not just the first."""

    exit_code = 2
    hint = "run 'logflume check -c FILE' after mending them"

    def __init__(self, problems: list[str], *, hint: str | None = None) -> None:
        super().__init__("; ".join(problems), hint=hint)
        self.problems = problems


class UsageError(LogflumeError):
    """A command was called with arguments that make no sense."""

    exit_code = 2


class Unreachable(LogflumeError):
    """A server does not answer, or not within the deadline."""

    exit_code = 3
    retry = True
    hint = "check the address and that the server is up"


class Refused(LogflumeError):
    """A server answers, and will not do it now: safe mode, quota, permission, no space (H3, H8, H9, H15)."""

    exit_code = 4
    retry = True
    hint = "clear the cause at the server; logflume goes on by itself"


class StoreError(LogflumeError):
    """A storage call failed; unless a subclass says more, its outcome is unknown."""

    exit_code = 5
    retry = True


class Missing(StoreError):
    """The path is not there."""

    retry = False


class Exists(StoreError):
    """The path is taken, and nothing was overwritten."""

    retry = False


class CannotConcat(StoreError):
    """The store does not concat these files, now or later; copying them still works. Nothing was changed by this call's
    last transaction.
    """

    retry = False
    hint = "what it names is in the way, such as a snapshot: files can still be copied"


class ShortFile(StoreError):
    """A file was closed with another length than what was written: it proves nothing (H5, H13)."""


class Unreadable(StoreError):
    """The local file that was to be uploaded is gone, or cannot be read: it never will be."""

    retry = False
    hint = "something else changed the local directory; what the file held is read again"


class LedgerError(LogflumeError):
    """An entry or the chain contradicts the rules: edited by hand, damaged, or of another program."""

    exit_code = 6
    hint = "nothing was changed; run 'logflume reconcile' and look at the named file"


class Fenced(LogflumeError):
    """Another owner extended the chain: what this owner holds of the partition is void (K2, Z3)."""

    exit_code = 7
    retry = True


class Stopped(LogflumeError):
    """The partition needs a person: lost offsets, a re-created topic, contradicting files (K7-K10, H11)."""

    exit_code = 8


class Incomplete(LogflumeError):
    """A job ended properly and found something that needs a person."""

    exit_code = 9


class Repairable(Incomplete):
    """A job found only what it would mend itself with ``--repair``."""

    exit_code = 10


class Repaired(LogflumeError):
    """A job mended everything that it found; nothing is left to do."""

    exit_code = 11


class Busy(LogflumeError):
    """The same job is running already, here or on another host; nothing was done."""

    exit_code = 12
    retry = True
    hint = "wait for the other one to end; it is safe to do nothing"
