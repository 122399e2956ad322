"""Shared fixtures: simulated logs, made once a session."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

from abtest.simulate import simulate, write
from abtest.spec import Experiment
from abtest.store.store import Store

# The same examples on every run, so that a red CI is about the change; ABTEST_FUZZ=1 looks for new ones.
settings.register_profile("steady", derandomize=True, deadline=None)
settings.register_profile("fuzz", derandomize=False, deadline=None, max_examples=1000)
settings.load_profile("fuzz" if os.environ.get("ABTEST_FUZZ") else "steady")

USERS = 5000
"""Enough for the regressions to be found, small enough for many tests."""


@dataclass(frozen=True)
class Logs:
    """A simulated experiment on disk, with its store."""

    folder: Path

    @property
    def spec(self) -> Path:
        return self.folder / "experiment.toml"

    @property
    def db(self) -> Path:
        return self.folder / "abtest.duckdb"

    @property
    def flags(self) -> Path:
        return self.folder / "flags.json"

    def experiment(self) -> Experiment:
        return Experiment.from_toml(self.spec)

    def store(self) -> Store:
        return Store(self.db)


@pytest.fixture(scope="session")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int, int], Path]:
    root = tmp_path_factory.mktemp("simulated")

    def make(scenario: str, users: int, seed: int) -> Path:
        folder = root / f"{scenario}-{users}-{seed}"
        if not folder.exists():
            write(simulate(scenario, users=users, seed=seed), folder)
            with Store(folder / "abtest.duckdb") as store:
                store.ingest(folder / "logs")
        return folder

    return make


@pytest.fixture
def simulated(_made: Callable[[str, int, int], Path], tmp_path: Path) -> Callable[..., Logs]:
    """Return a maker of simulated experiments, each a copy that the test may change."""

    def make(scenario: str, users: int = USERS, seed: int = 1) -> Logs:
        target = tmp_path / f"{scenario}-{users}-{seed}"
        if not target.exists():
            shutil.copytree(_made(scenario, users, seed), target)
        return Logs(target)

    return make
