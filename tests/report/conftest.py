"""Models are built once: drawing the pictures is what takes time."""

from __future__ import annotations

import pytest
import report_samples as samples

from abtest.report import build
from abtest.report.model import ReportModel


@pytest.fixture(scope="session")
def halted() -> ReportModel:
    return build([samples.halted()], generated_from={"store": "abtest.duckdb", "abtest": "0.1.0"})


@pytest.fixture(scope="session")
def nightly() -> ReportModel:
    entries = [samples.halted(), samples.holding(), samples.healthy(), samples.unknown(), samples.empty()]
    return build(entries, generated_from={"store": "abtest.duckdb"}, title="Nightly report")


@pytest.fixture(scope="session")
def hostile() -> ReportModel:
    return build(
        [samples.hostile()], generated_from={samples.HOSTILE: samples.HOSTILE + "B" * 10_000}, title=samples.HOSTILE
    )
