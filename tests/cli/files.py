"""Configuration files for commands."""

from __future__ import annotations

from pathlib import Path


def write(
    directory: Path,
    *,
    bootstrap: str = "127.0.0.1:1",
    kafka: str = "",
    root: str = "",
    output: str = "",
    daemon: str = "",
    topics: str = '[[topic]]\nname = "app"\ntimestamp = "create"\n',
) -> str:
    """A configuration whose servers nobody is, unless said otherwise; returns its path."""
    path = directory / "logflume.toml"
    path.write_text(
        f'[kafka]\n"bootstrap.servers" = "{bootstrap}"\n"group.id" = "cli"\n{kafka}\n'
        f'[output]\nroot = "{root or f"file://{directory}/out"}"\n{output}\n'
        f'[daemon]\nspool = "{directory}/spool"\nspool_bytes = "1MiB"\nhttp = ""\n{daemon}\n{topics}'
    )
    return str(path)
