from __future__ import annotations

import pytest

from tests.mutants.__main__ import ROOT, mutated
from tests.mutants.table import MUTANTS, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_mutant_still_fits_the_program(mutant: Mutant) -> None:
    """They are run seldom, by ``make mutants``; a change of the program that they miss shows at once."""
    text = (ROOT / "logflume" / mutant.file).read_text()
    assert mutated(mutant, text) != text
