"""`abtest doctor`: every check is seen to find what it is for."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from abtest.cli.main import run
from abtest.store import doctor
from abtest.store.doctor import CHECKS, examine
from abtest.store.store import Store

ROW = {"interaction_id": "1", "ts": "2026-11-20T12:00:00Z", "model": "m"}
NOW = 1_795_348_800_000_000  # 2026-11-22T12:00:00Z: two days after


@pytest.fixture
def path(tmp_path: Path) -> Path:
    log = tmp_path / "log.ndjson"
    log.write_text(json.dumps(ROW) + "\n", encoding="utf-8")
    with Store(tmp_path / "s.duckdb") as store:
        store.ingest(log, source="native")
    return tmp_path / "s.duckdb"


def status(path: Path, now_us: int = NOW) -> dict[str, str]:
    return {found.check: found.status for found in examine(path, now_us=now_us)}


def test_a_healthy_store(path: Path) -> None:
    os.utime(path, (NOW / 1e6 - 60, NOW / 1e6 - 60))
    assert set(status(path).values()) == {"ok"}
    assert len(status(path)) == len(CHECKS) + 1
    assert all(found.advice == "" for found in examine(path, now_us=NOW))


def test_no_store(tmp_path: Path) -> None:
    found = status(tmp_path / "none.duckdb")
    assert found["store"] == "warning"
    assert found["ledger"] == found["schema"] == "skipped"
    assert found["python"] == found["packages"] == found["disk"] == "ok"
    assert not (tmp_path / "none.duckdb").exists()


def test_not_a_store(tmp_path: Path) -> None:
    (tmp_path / "x.duckdb").write_text("hello", encoding="utf-8")
    assert status(tmp_path / "x.duckdb")["store"] == "failed"
    assert status(tmp_path / "nowhere" / "x.duckdb")["disk"] == "failed"


def test_a_store_that_is_held(path: Path) -> None:
    code = f"from abtest.store.store import Store; s = Store({str(path)!r}); print('up', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == b"up\n"
        found = {f.check: f for f in examine(path, now_us=NOW)}
        holder.stdin.close()
    assert found["store"].status == "warning"
    assert str(holder.pid) in found["store"].detail


def test_clock_and_flow(path: Path) -> None:
    os.utime(path, (NOW / 1e6, NOW / 1e6))
    assert status(path, NOW - 5 * doctor.DAY_US)["clock"] == "warning"  # written and logged in the future
    os.utime(path, (1, 1))
    assert status(path, NOW - 5 * doctor.DAY_US)["clock"] == "warning"  # logged in the future
    assert status(path, NOW)["clock"] == "ok"
    assert status(path, NOW + doctor.DAY_US)["logs"] == "warning"


def test_a_changed_ledger_and_rejected_rows(path: Path) -> None:
    with Store(path) as store:
        store.connection.execute("insert into ledger values (2, 'decision', 'e', 1, 0, null, '{}', '', '')")
        store.connection.execute(
            "insert into quarantine select 1, 1, 'p', 1, 0, null, 'r', null, 'native', 0 from range(5)"
        )
    found = {f.check: f for f in examine(path, now_us=NOW)}
    assert found["ledger"].status == "failed"
    assert found["quarantine"].status == "warning"
    assert "abtest quarantine list" in found["quarantine"].advice


def test_little_room(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(path.parent)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: usage._replace(free=10**6))
    assert status(path)["disk"] == "warning"


def test_packages(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: ["duckdb<2", "no-such-thing>=1", "numpy>=1"])
    found = next(f for f in examine(path) if f.check == "packages")
    assert found.status == "failed"
    assert "no-such-thing is missing" in found.detail
    assert "duckdb" in found.detail
    assert "numpy" not in found.detail


@pytest.mark.parametrize(
    ("have", "wanted", "fits"),
    [("2.0.1", ">=2,<3", True), ("3.0", ">=2,<3", False), ("1.10", ">=1.9", True), ("2", "", True), ("0.6.1rc1", ">=0.6.1", True)],
)  # fmt: skip
def test_versions(have: str, wanted: str, fits: bool) -> None:
    assert doctor._fits(have, wanted) is fits


def test_command(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.utime(path, (time.time() - 60,) * 2)
    assert run(["doctor", "--db", str(path), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["schema"] == "abtest.doctor/1"
    assert said["ok"] is True
    with Store(path) as store:
        store.connection.execute("insert into ledger values (2, 'decision', 'e', 1, 0, null, '{}', '', '')")
    assert run(["doctor", "--db", str(path)]) == 30
    assert "restore the store from a snapshot" in capsys.readouterr().out
