"""The wheel holds what it needs: built, installed apart from the checkout, and run there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy of what git would ship, so that nothing lying about gets in."""
    source = tmp_path_factory.mktemp("source") / "abtest"
    source.mkdir()
    for name in ("abtest", "sql"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"):
        shutil.copy(ROOT / name, source / name)
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(out), str(source)],
        check=True, timeout=120, cwd=out,
    )  # fmt: skip
    return next(out.glob("*.whl"))


def test_contents(wheel: Path):
    names = set(zipfile.ZipFile(wheel).namelist())
    queries = {f"abtest/_sql/{p.relative_to(ROOT / 'sql').as_posix()}" for p in (ROOT / "sql").rglob("*.sql")}
    assert queries <= names
    assert {"abtest/py.typed", "abtest/starter.toml", "abtest/report/templates/report.html.j2"} <= names
    assert not {n for n in names if n.startswith(("tests/", "sql/", "notebooks/")) or ".duckdb" in n}


def test_it_runs_outside_the_checkout(wheel: Path, tmp_path: Path):
    site, work = tmp_path / "site", tmp_path / "work"
    work.mkdir()
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)],
        check=True,
        timeout=120,
        cwd=work,
    )
    environment = {**os.environ, "PYTHONPATH": str(site)}
    where = subprocess.run(
        [sys.executable, "-c", "import abtest, abtest.store.files as f; print(abtest.__file__); print(f.sql_root())"],
        check=True, capture_output=True, text=True, timeout=60, cwd=work, env=environment,
    ).stdout.split()  # fmt: skip
    assert all(Path(p).is_relative_to(site) for p in where), where
    done = subprocess.run(
        [sys.executable, "-m", "abtest.cli.main", "demo", "--users", "2000"],
        capture_output=True, text=True, timeout=180, cwd=work, env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (work / "demo" / "report" / "report.html").is_file()
