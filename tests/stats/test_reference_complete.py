"""Every public function and class of every module of abtest.stats is named in docs/reference."""

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import abtest.stats

MODULES = [module.name for module in pkgutil.iter_modules(abtest.stats.__path__)]
PAGES = Path(__file__).parents[2] / "docs" / "reference"
# Used between the modules of abtest.stats, not a part of what people call.
INTERNAL = {
    "means": {"Reference", "check_alternative", "tail_pvalue", "wald_interval", "welch_df"},
    "moments": {"too_large"},
    "multiplicity": {"check_level"},
    "planning": {"check_effect", "check_positive", "check_sides"},
    "proportions": {"Table", "bisect", "check_table"},
    "recursion": {"check_times"},
}


def public(name):
    module = importlib.import_module(f"abtest.stats.{name}")
    for key, thing in vars(module).items():
        own = getattr(thing, "__module__", None) == module.__name__
        if own and not key.startswith("_") and (inspect.isfunction(thing) or inspect.isclass(thing)):
            yield key, thing


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_is_in_the_reference(name):
    text = "\n".join(page.read_text(encoding="utf-8") for page in sorted(PAGES.glob("stats_*.md")))
    if not text:
        pytest.skip("docs are not beside the tests")
    spans = " ".join(re.findall(r"`[^`\n]+`", text))
    missing = [
        key for key, _ in public(name) if key not in INTERNAL.get(name, set()) and not re.search(rf"\b{key}\b", spans)
    ]
    assert not missing, f"abtest.stats.{name} is missing in docs/reference: {missing}"


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_says_what_it_does(name):
    assert all(inspect.getdoc(thing) for _, thing in public(name))


def test_nothing_internal_is_listed_that_is_gone():
    for name, keys in INTERNAL.items():
        assert keys <= {key for key, _ in public(name)}


def test_the_code_of_the_reference_runs():
    for page in sorted(PAGES.glob("stats_*.md")):
        for code in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            exec(compile(code, page.name, "exec"), {})
