"""A place on the local disk for what a job writes before it is uploaded."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from logflume.errors import Refused


@contextmanager
def scratch(job: str) -> Iterator[Path]:
    """A directory in the system's temporary one, removed at the end. Raises Refused where that is full."""
    try:
        with tempfile.TemporaryDirectory(prefix=f"logflume-{job}-") as folder:
            yield Path(folder)
    except OSError as error:
        raise Refused(
            f"temporary directory: {(error.strerror or str(error)).lower()}",
            hint="make room there, or name another one in the environment variable TMPDIR",
        ) from error
