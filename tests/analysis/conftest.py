"""A maker of stores for the tests of the analysis layer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from analysis_store import StoreMaker


@pytest.fixture
def make_store(tmp_path: Path) -> Iterator[StoreMaker]:
    maker = StoreMaker(tmp_path)
    yield maker
    maker.close()
