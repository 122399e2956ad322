"""Published tables: Jennison and Turnbull (2000), Lan and DeMets (1983)."""

import pytest
from golden_fixed import load

from abtest.stats.group_sequential import classical_design, spending_design


@pytest.mark.parametrize("case", load("published_tables", "constant"))
def test_constants(case):
    x = case["inputs"]
    kind, name = ("obrien_fleming", "C_B") if "C_B" in case["outputs"] else ("pocock", "C_P")
    design = classical_design(x["K"], alpha=x["alpha_two_sided"], kind=kind)
    assert design.upper[-1] == pytest.approx(case["outputs"][name], abs=case["atol"])


@pytest.mark.parametrize("case", load("published_tables", "inflation"))
def test_inflation(case):
    for kind, name in (("pocock", "R_P"), ("obrien_fleming", "R_B")):
        design = classical_design(case["inputs"]["K"], alpha=0.05, kind=kind, power=0.8)
        assert design.inflation == pytest.approx(case["outputs"][name], abs=case["atol"])


@pytest.mark.parametrize("case", load("published_tables", "Lan-DeMets"))
def test_spending(case):
    family = "obrien_fleming" if "asOF" in case["id"] else "pocock"
    design = spending_design(case["inputs"]["t"], alpha=0.025, sides=1, spending=family)
    assert list(design.upper) == pytest.approx(case["outputs"]["z"], abs=case["atol"])
