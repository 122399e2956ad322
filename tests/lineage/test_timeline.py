"""Changes of versions beside changes of metrics, against a history whose changes are known to the minute."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lineage_logs import BEGIN, DAY, HOUR, MINUTE, V12, V13, add, calls

from abtest.analysis.times import parse_moment
from abtest.charts import to_svg
from abtest.charts.timeline import timeline_chart
from abtest.errors import InvalidInputError, UsageError
from abtest.lineage.manifest import Manifest
from abtest.lineage.registry import label, register
from abtest.lineage.registry_file import registration
from abtest.lineage.timeline import timeline
from abtest.store.store import Store

CANARY = BEGIN + 6 * DAY + 2 * HOUR + 13 * MINUTE
HALF = BEGIN + 6 * DAY + 14 * HOUR + 20 * MINUTE
BROKEN = HALF + 12 * MINUTE


def history(store: Store, seed: int = 1, *, broken: bool = True, rows: int = 72_000) -> None:
    """Eight days on one surface: v13 at 5 % from day 6, at 60 % twelve hours later; its answers do not parse any more."""
    rng = np.random.default_rng(seed)
    ts = np.sort(rng.integers(BEGIN, BEGIN + 8 * DAY, rows))
    new = rng.random(rows) < np.where(ts < CANARY, 0.0, np.where(ts < HALF, 0.05, 0.6))
    bad = rng.random(rows) < np.where((ts >= BROKEN) & broken, 0.051, 0.004)
    add(store, calls(
        [V13 if n else V12 for n in new], ts.tolist(), surface=["support"] * rows, unit_id=[f"u{k}" for k in rng.integers(0, rows, rows)],
        format_ok=(~bad).tolist(), latency_ms=np.exp(rng.normal(6, 0.5, rows)).tolist(),
    ))  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory):
    with Store(tmp_path_factory.mktemp("timeline") / "s.duckdb") as made:
        history(made)
        yield made


def near(text: Any, us: int, minutes: float) -> bool:
    return abs(parse_moment(str(text)) - us) <= minutes * MINUTE


def test_the_sentence_of_the_night(store: Store):
    found = timeline(store)
    assert [e.kind for e in found.events] == ["appeared", "reached_half", "metric_shift"]
    came, half, shift = found.events
    assert near(came.at, CANARY, 10)
    assert near(half.at, HALF, 5)
    assert came.manifest_id == half.manifest_id == Manifest.of(V13).manifest_id
    assert shift.metric == "format_errors"
    assert near(shift.at, BROKEN, 15)
    assert parse_moment(str(shift.earliest)) - MINUTE <= BROKEN <= parse_moment(str(shift.latest)) + MINUTE
    assert shift.before == pytest.approx(0.004, abs=0.001)
    assert shift.after == pytest.approx(0.051, abs=0.01)
    assert shift.beside == half.message
    assert "format errors rose from 0.38 % to 4.4 % about 12 minutes" in shift.message
    assert "after answer v13 on gpt-4o-2024-08-06 reached 50 %" in shift.message


def test_what_was_known_at_the_time(store: Store):
    assert timeline(store, at=CANARY - MINUTE).events == ()
    assert [e.kind for e in timeline(store, at=HALF - HOUR).events] == ["appeared"]
    soon = timeline(store, at=BROKEN + 12 * HOUR)
    assert [e.kind for e in soon.events] == ["appeared", "reached_half", "metric_shift"]
    alarm = parse_moment(str(soon.events[-1].alarm_at))
    assert BROKEN < alarm <= BROKEN + 12 * HOUR
    late = timeline(store, since="2026-11-08T12:00:00Z")
    assert [e.kind for e in late.events] == ["reached_half"]  # no baseline before the change: nothing to compare with


def test_nothing_is_told_where_nothing_changed(tmp_path: Path):
    with Store(tmp_path / "s.duckdb") as quiet:
        rng = np.random.default_rng(5)
        rows = 20_000
        ts = np.sort(rng.integers(BEGIN, BEGIN + 8 * DAY, rows))
        mix = rng.random(rows) < 0.5  # an even split wavers around a half
        add(quiet, calls([V13 if m else V12 for m in mix], ts.tolist(), refused=(rng.random(rows) < 0.03).tolist()))
        found = timeline(quiet)
        assert found.events == ()
        assert "nothing changed" in repr(found)
        assert found.tracks[0]["surface"] is None


def test_moves_of_the_registry_stand_beside(tmp_path: Path):
    import time

    with Store(tmp_path / "s.duckdb") as made:
        soon = time.time_ns() // 1000 + HOUR
        add(made, calls([V12], [soon]))
        register(made, registration({"prompt_version": "v12", "model": "gpt-4o"}))
        label(made, "production", "v12")
        assert [e.kind for e in timeline(made, since="2h").events] == ["registered", "label_moved"]


def test_the_picture(store: Store):
    found = timeline(store)
    svg = to_svg(found.plot())
    assert svg == to_svg(timeline(store).plot())
    assert "reaches 50 %" in svg
    assert "format_errors" in svg
    assert "<desc>" in svg
    assert "rose from" in svg
    with pytest.raises(InvalidInputError):
        timeline_chart(found.to_dict(), "elsewhere")


def test_hostile_names_stay_text(tmp_path: Path):
    with Store(tmp_path / "s.duckdb") as made:
        rng = np.random.default_rng(2)
        evil = {**V13, "prompt_version": "<script>alert(1)</script>\x1b[2J"}
        for manifest, first, last in ((V12, 0, 5), (evil, 5, 8)):
            ts = np.sort(rng.integers(BEGIN + first * HOUR, BEGIN + last * HOUR, 300)).tolist()
            add(made, calls([manifest] * 300, ts, surface=["<img src=x>"] * 300))
        found = timeline(made, since="1d")
        assert {"appeared", "reached_half", "stopped"} == {e.kind for e in found.events}
        for text in (found._repr_html_(), to_svg(found.plot())):
            assert "<script>" not in text
            assert "<img" not in text
        assert "\x1b" not in repr(found)


def test_an_empty_store_and_bad_words(tmp_path: Path, store: Store):
    with Store(tmp_path / "s.duckdb") as made:
        assert timeline(made).as_of is None
        assert "no calls" in repr(timeline(made))
    for words in ("soon", "2027-01-01T00:00:00Z"):
        with pytest.raises(UsageError):
            timeline(store, since=words)
    data = json.loads(json.dumps(timeline(store).to_dict()))
    assert data["schema"] == "abtest.versions_timeline/1"
    assert "format errors" in timeline(store)._repr_html_()
