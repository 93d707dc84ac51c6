"""``logflume check``"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

import click

from logflume import config
from logflume.cli.options import config_option, json_option
from logflume.errors import ConfigError
from logflume.preflight import Finding, Level, check, exit_code


@click.command("check")
@config_option
@json_option
@click.pass_context
def command(ctx: click.Context, path: str, as_json: bool) -> None:
    """Verify a configuration and the servers it names.

    Everything is looked at and every problem is told at once: the file's keys, the brokers, each topic
    and what would become of its latest records, the output root (some small files are written there
    and removed), the spool. Nothing is started, no offset is committed. The exit code is 0 unless
    there is an error; a warning is none.

    \b
    Examples:
      logflume check -c logflume.toml
      logflume check -c logflume.toml --json | jq '.findings[] | select(.level != "ok")'
    """
    try:
        settings = config.load(path)
    except ConfigError as error:
        if not as_json:
            raise
        findings = [
            Finding("configuration", Level.ERROR, problem, error.hint, error.exit_code) for problem in error.problems
        ]
    else:
        good = Finding("configuration", Level.OK, f"{path} can be used")
        findings = [good, *check(settings, start=False)]
    click.echo(_json(findings) if as_json else _text(findings))
    ctx.exit(exit_code(findings))


def _json(findings: Sequence[Finding]) -> str:
    """A contract: keys are added, never changed."""
    code = exit_code(findings)
    body = {"ok": code == 0, "exit_code": code, "findings": [asdict(one) for one in findings]}
    return json.dumps(body, indent=2)


def _text(findings: Sequence[Finding]) -> str:
    lines = []
    for one in findings:
        lines.append(f"{one.level:<8} {one.where}: {one.text}")
        if one.hint:
            lines.append(f"{'':8}   hint: {one.hint}")
    return "\n".join(lines)
