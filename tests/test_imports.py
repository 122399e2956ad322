"""What is loaded when: importing one part must not load the whole house."""

from __future__ import annotations

import subprocess
import sys

import pytest

import abtest


def loaded(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(' '.join(sys.modules))"
    return set(
        subprocess.run(
            [sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=60
        ).stdout.split()
    )


def test_import_abtest_loads_nothing():
    modules = loaded("import abtest")
    assert not modules & {"duckdb", "numpy", "scipy", "polars", "pydantic", "altair", "typer", "statsmodels"}


def test_a_sequential_test_needs_neither_scipy_stats_nor_statsmodels():
    modules = loaded(
        "import abtest\nfrom abtest.stats.mixture import log_e_two_sided\nassert log_e_two_sided(3.0, 1.0, 1.0) > 0"
    )
    assert not modules & {"scipy.stats", "statsmodels", "duckdb", "polars", "pydantic"}


def test_deciding_loads_no_pictures():
    modules = loaded("from abtest.rollout.decide import decide")
    assert not modules & {"altair", "vl_convert", "statsmodels", "scipy.stats", "polars", "jinja2"}


def test_public_names():
    assert sorted(abtest.__all__) == [n for n in dir(abtest) if n in abtest.__all__]
    for name in abtest.__all__:
        assert getattr(abtest, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        abtest.nothing  # noqa: B018
