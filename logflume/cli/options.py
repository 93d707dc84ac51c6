"""Options that several commands have."""

from __future__ import annotations

import click

config_option = click.option(
    "-c",
    "--config",
    "path",
    required=True,
    metavar="FILE",
    type=click.Path(),
    help="The configuration, a TOML file.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
