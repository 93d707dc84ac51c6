"""``logflume COMMAND``: one file a command, named after it, loaded only when it is called.

Each such module has a click command called ``command``. A LogflumeError ends the program with its own exit
code (see ``exits``) and two lines for people; any other exception is a bug and keeps its traceback.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

import click

from logflume import __version__
from logflume.errors import ConfigError, LogflumeError

#: command → what it does, in a line; here, since the modules are not loaded for a list of them
COMMANDS = {
    "run": "Move records into hourly files until stopped.",
    "check": "Verify a configuration and the servers it names.",
    "status": "Say how far each partition is, and what each hour waits for.",
    "backfill": "Write a past range of a topic again, beside the daemon.",
    "reconcile": "Compare the ledgers with the files and with Kafka.",
    "compact": "Merge the small files of finished hours.",
    "reveal": "Show an hour that cannot become complete, as it is.",
    "locate": "Find the file that has an offset.",
    "quarantine": "List what could not be placed, and run it again.",
    "demo": "Show it working, without Kafka or HDFS.",
}

INTERRUPTED = 130


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # as click has it
        return [name for name in COMMANDS if find_spec(f"{__name__}.{name}")]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = import_module(f"{__name__}.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name]) for name in self.list_commands(ctx)])

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except LogflumeError as error:
            show(error)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)


def show(error: LogflumeError) -> None:
    """The error for people, on standard error: what, each problem on a line, then what to do."""
    for problem in error.problems if isinstance(error, ConfigError) else [str(error)]:
        click.echo(f"error: {problem}", err=True)
    if error.hint:
        click.echo(f"hint: {error.hint}", err=True)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 99})
@click.version_option(__version__, prog_name="logflume", message="%(prog)s %(version)s")
def main() -> None:
    """Move log records from Kafka into complete hourly files on HDFS, exactly once.

    'logflume COMMAND --help' has options and examples of each command.
    """
