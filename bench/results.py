"""Files of bench/results: written anew after each piece of a measurement, so that one that is cut off leaves them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from bench.tables import table

#: what one piece of a measurement may fail with: it is written down, and the pieces after it go on
FAILURES = (Exception, SystemExit)
RESULTS = Path(__file__).parent / "results"


class Results:
    """``name``.json and ``name``.md; without a name nothing is written."""

    def __init__(self, name: str | None) -> None:
        self._name = name

    def save(self, found: dict[str, Any]) -> None:
        """What is known so far. It must have what ``table`` needs."""
        if self._name:
            RESULTS.mkdir(exist_ok=True)
            self._write("json", json.dumps(found, indent=1))
            self._write("md", table(found))

    def _write(self, extension: str, text: str) -> None:
        partial = RESULTS / f".{self._name}.{extension}"
        partial.write_text(text + "\n")
        os.replace(partial, RESULTS / f"{self._name}.{extension}")
