"""Importing the statistics loads neither scipy.stats nor statsmodels, and every public name is in the reference."""

import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

MODULES = [
    "energy",
    "group_sequential",
    "lift",
    "margins",
    "means",
    "moments",
    "multiplicity",
    "paired",
    "planning",
    "planning_ramp",
    "ppi",
    "proportion_tests",
    "proportions",
    "quantiles",
    "rates",
    "recursion",
]
# Used between the modules of abtest.stats, not a part of what people call.
INTERNAL = {
    "Reference",
    "Table",
    "bisect",
    "check_alternative",
    "check_effect",
    "check_level",
    "check_positive",
    "check_sides",
    "check_table",
    "check_times",
    "tail_pvalue",
    "too_large",
    "wald_interval",
    "welch_df",
}
ROOT = Path(__file__).parents[2]


def test_heavy_packages_stay_outside():
    names = [f"abtest.stats.{m}" for m in MODULES]
    heavy = ("scipy.stats", "statsmodels", "scipy.optimize", "duckdb", "polars", "pydantic")
    loop = f"for n in {names!r}: importlib.import_module(n)"
    code = f"import sys, importlib\n{loop}\nprint([h for h in {heavy!r} if h in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_is_documented(name):
    page = ROOT / "docs" / "reference" / "stats_fixed.md"
    if not page.exists():
        pytest.skip("docs are not beside the tests")
    text = page.read_text(encoding="utf-8")
    module = importlib.import_module(f"abtest.stats.{name}")
    for key, thing in vars(module).items():
        own = getattr(thing, "__module__", None) == module.__name__
        if (
            key.startswith("_")
            or key in INTERNAL
            or not own
            or not (inspect.isfunction(thing) or inspect.isclass(thing))
        ):
            continue
        assert inspect.getdoc(thing)
        assert f"`{key}`" in text, f"{name}.{key} is missing in docs/reference/stats_fixed.md"
