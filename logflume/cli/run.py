"""``logflume run``"""

from __future__ import annotations

import click

from logflume import config, log
from logflume.cli.options import config_option


@click.command("run")
@config_option
@click.pass_context
def command(ctx: click.Context, path: str) -> None:
    """Move records into hourly files until stopped.

    First everything is looked at that 'logflume check' looks at, but for the records; nothing starts
    where that finds an error. One topic of several that does not exist is a warning.

    SIGTERM or Ctrl-C stops within 'stop_deadline', a second one at once; nothing is lost either
    way. Logs go to standard error.

    \b
    Examples:
      logflume run -c /etc/logflume/logflume.toml
    """
    # loaded here, so that --help is quick
    from logflume import preflight  # noqa: PLC0415
    from logflume.daemon.supervisor import Supervisor  # noqa: PLC0415

    settings = config.load(path)
    log.configure(settings.daemon.log_level, settings.daemon.log_format)
    findings = preflight.check(settings, start=True)
    for one in findings:
        if one.level is not preflight.Level.OK:
            click.echo(f"{one.level}: {one.where}: {one.text}", err=True)
            if one.hint:
                click.echo(f"hint: {one.hint}", err=True)
    ctx.exit(preflight.exit_code(findings) or Supervisor(settings).run())
