"""README.md says what the program says."""

from __future__ import annotations

from tests import readme


def test_the_generated_parts_are_those_of_the_program() -> None:
    text = readme.README.read_text()
    assert text == readme.filled(text), "run 'python -m tests.readme'"
