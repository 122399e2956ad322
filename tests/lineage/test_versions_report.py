"""What one release ran, and how its report says it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lineage_logs import BEGIN, DAY, V12, V13, add, steady

from abtest.lineage import seen
from abtest.lineage.registry import label, register
from abtest.lineage.registry_file import registration
from abtest.lineage.release_versions import release_versions
from abtest.report import Entry, build, html, markdown
from abtest.results import Analysis, Stage
from abtest.spec import Experiment
from abtest.store.store import Store

SPEC = Experiment.model_validate({
    "id": "swap", "control": "baseline", "treatments": ["candidate"],
    "metrics": [{"name": "errors", "kind": "proportion", "event": "is_error", "better": "lower"}],
})  # fmt: skip


@pytest.fixture
def store(tmp_path: Path):
    rng = np.random.default_rng(1)
    with Store(tmp_path / "s.duckdb") as made:
        for manifest, arm, count in (
            (V12, "baseline", 90),
            ({**V12, "model_version": None}, "baseline", 3),
            (V13, "candidate", 60),
        ):
            add(
                made,
                steady(manifest, BEGIN, BEGIN + DAY, count, rng, surface="support", experiment_id="swap", variant=arm),
            )
        add(made, steady({"model": "o3"}, BEGIN, BEGIN + DAY, 9, rng, surface="support"))
        yield made


def page(found: Any) -> str:
    analysis = Analysis("swap", 1, Stage(0, "canary"), None, "baseline", (), (), ())
    model = build([Entry(analysis, None, (), found)])
    assert "<script>alert" not in html.render(model)
    return markdown.render(model)


def test_each_arm_ran_one_version(store: Store):
    register(store, registration({"prompt_version": "v12", "model": "gpt-4o"}))
    label(store, "production", "v12")
    found = release_versions(store, SPEC)
    whole = [v for v in found.versions if v["part_of"] is None]
    assert [(v["arm"], v["manifest"]["prompt_version"], v["calls"]) for v in whole] == [
        ("baseline", "v12", 90),
        ("candidate", "v13", 60),
    ]
    assert whole[0]["labels"] == ["production"]
    assert whole[0]["share"] == pytest.approx(90 / 93)
    text = page(found)
    assert "What ran" in text
    assert "answer v13" in text
    assert "Each arm ran one version" in text
    assert "3 calls lack some fields" in text


def test_a_version_that_came_later_is_told(store: Store):
    rng = np.random.default_rng(2)
    late = {**V13, "prompt_version": "<script>alert(1)</script>"}
    add(
        store,
        steady(
            late,
            BEGIN + 2 * DAY,
            BEGIN + 3 * DAY,
            99,
            rng,
            surface="support",
            experiment_id="swap",
            variant="candidate",
        ),
    )
    found = release_versions(store, SPEC)
    (change,) = found.changes
    assert change["arm"] == "candidate"
    assert change["at"] > "2026-11-04"
    assert "prompt_version v13 to" in change["message"]
    assert "began to run" in page(found)
    assert release_versions(store, SPEC, BEGIN + DAY).changes == ()


def test_nothing_to_say_is_said(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    other = SPEC.model_copy(update={"id": "other"})
    assert "do not say which call" in release_versions(store, other).note
    assert "do not say which call" in page(release_versions(store, other))
    with Store(tmp_path / "empty.duckdb") as empty:
        assert "no calls" in release_versions(empty, SPEC).note
    monkeypatch.setattr(seen, "MOST", 1)
    assert "changes from call to call" in release_versions(store, SPEC).note
    assert "What ran" not in page(None)
