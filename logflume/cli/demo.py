"""``logflume demo``"""

from __future__ import annotations

import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click

from logflume import units
from logflume.cli.options import json_option
from logflume.errors import LogflumeError, UsageError


@click.command("demo")
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path),
    help="Work in this directory, new or empty, and leave everything there.",
)
@click.option("--keep", is_flag=True, help="Do not remove the temporary directory.")
@click.option("--seed", type=int, default=1, show_default=True, help="Which records are made.")
@json_option
def command(directory: Path | None, keep: bool, seed: int, as_json: bool) -> None:
    """Show it working, without Kafka or HDFS, in about half a minute.

    An embedded broker gets three hours of access logs with all that goes wrong in real ones. The real
    daemon moves them into hourly files in a local directory, and its worker is killed on the way. Then
    every file is read back and every record accounted for: exit code 9 if one is lost, repeated or in
    the wrong place.

    \b
    Examples:
      logflume demo
      logflume demo --dir DIRECTORY         # and look around in it afterwards
      logflume demo --json | jq .account
    """
    # loaded here, so that --help is quick
    from logflume.demo import run, screen, summary  # noqa: PLC0415

    shown = screen.Screen(live=sys.stdout.isatty() and not as_json)
    with _signals(), _directory(directory, keep=keep) as (path, kept):
        try:
            result = run.run(path, run.Reporter() if as_json else shown, seed=seed)
            if as_json:
                click.echo(json.dumps(summary.of(result), indent=1))
            else:
                shown.show("")
                shown.show(screen.report(result))
        except KeyboardInterrupt:
            said = "interrupted: the broker and the daemon are stopped"
            if as_json:
                click.echo(said, err=True)
            else:
                shown.show(said)
            raise
        finally:
            shown.flush()
        summary.judge(result)
        if not as_json:
            click.echo(screen.next_steps(result, kept=kept))


@contextmanager
def _signals() -> Iterator[None]:
    """A terminal that is closed and a plain kill end the demo as Ctrl-C does: in order."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _directory(wanted: Path | None, *, keep: bool) -> Iterator[tuple[Path, bool]]:
    """Where to work, and whether that stays. After an error it does in any case, for whoever looks into it."""
    if wanted is not None:
        yield _prepared(wanted), True
        return
    path = Path(tempfile.mkdtemp(prefix="logflume-demo-")).resolve()
    try:
        _check_name(path)
        yield path, keep
    except LogflumeError:
        click.echo(f"what the demo wrote is left in {path}", err=True)
        keep = True
        raise
    finally:
        if not keep:
            shutil.rmtree(path, ignore_errors=True)


def _prepared(wanted: Path) -> Path:
    path = wanted.resolve()
    _check_name(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        taken = any(path.iterdir())
    except OSError as error:
        raise UsageError(f"--dir {wanted}: {(error.strerror or str(error)).lower()}") from None
    if taken:
        raise UsageError(f"--dir {wanted}: not empty", hint="name a new directory, or an empty one")
    return path


def _check_name(path: Path) -> None:
    try:
        units.normal_root(f"file://{path}")
    except ValueError:
        raise UsageError(
            f"{path} cannot hold the output",
            hint="name a directory with --dir, its path of letters, digits and _ . = + @ , ~ - only",
        ) from None
