"""The parts of README.md that are made from the program and the evidence: ``python -m tests.readme`` writes them.

``tests/test_readme.py`` fails when they are not what the program says.
"""

from __future__ import annotations

import re
from pathlib import Path

from logflume import config
from logflume.cli import exits
from logflume.core import diagram
from tests.evidence import tables
from tests.evidence.__main__ import read as read_evidence

README = Path(__file__).parent.parent / "README.md"


def blocks() -> dict[str, str]:
    """Name → text of each generated part, as it stands between its two comments."""
    rows = [
        f"| `{doc.key}` | {doc.type} | {f'`{doc.default}`' if doc.default else ''} | {doc.meaning} |".replace("\n", " ")
        for doc in config.describe()
    ]
    keys = ["| key | type | default | meaning |", "|---|---|---|---|", *rows]
    return {
        "diagram": f"```mermaid\n{diagram.mermaid()}```\n",
        "keys": "\n".join(keys) + "\n",
        "exits": exits.table().rstrip("\n") + "\n",
        "evidence": tables.summary(read_evidence()) + "\n",
    }


def filled(text: str) -> str:
    """The README with every generated part as the program has it now. Raises ValueError when a place is missing."""
    for name, block in blocks().items():
        found = re.search(rf"<!-- generated: {name} -->\n(.*?)<!-- end -->", text, flags=re.DOTALL)
        if found is None:
            raise ValueError(f"README.md has no place for {name}")
        text = text[: found.start(1)] + block + text[found.end(1) :]
    return text


if __name__ == "__main__":
    README.write_text(filled(README.read_text()))
