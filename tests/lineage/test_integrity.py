"""What should not be: each is provoked and found, and a hundred healthy logs have none of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lineage_logs import BEGIN, DAY, V12, V13, add, calls, steady

from abtest.lineage import seen
from abtest.lineage.arms import calls_of_release
from abtest.lineage.findings import mixed, release_findings
from abtest.lineage.integrity import integrity
from abtest.lineage.models import is_alias, is_swap
from abtest.lineage.registry import Registry, label, register, registry, retire
from abtest.lineage.registry_file import registration
from abtest.lineage.versions import versions
from abtest.rollout.rules import FINDING_CODES
from abtest.spec import Experiment
from abtest.store.store import Store

BASE = {**V12, "params_sha256": "p1", "tools_sha256": "t1"}
CAND = {
    **V13,
    "params_sha256": "p1",
    "tools_sha256": "t1",
    "model": "claude-sonnet-4-5",
    "model_version": "claude-sonnet-4-5-20250929",
}
WEEK = 7 * DAY


def experiment(name: str = "swap", **more: Any) -> Experiment:
    return Experiment.model_validate({
        "id": name, "control": "baseline", "treatments": ["candidate"],
        "metrics": [
            {"name": "refusal_rate", "kind": "proportion", "event": "refused", "better": "lower", "guardrail": {"margin": {"points": 0.01}}},
            {"name": "latency", "kind": "mean", "value": "latency_ms", "better": "lower"},
        ], **more,
    })  # fmt: skip


def release(rng: np.random.Generator, name: str = "swap", rows: int = 900, days: float = 7) -> dict[str, list[Any]]:
    """Return the calls of a healthy release: two arms on one surface, failed calls, an alias, two fingerprints all along."""
    ts = np.sort(rng.integers(BEGIN, BEGIN + int(days * DAY), rows))
    arm = rng.random(rows) < np.where(ts < BEGIN + 2 * DAY, 0.05, 0.4)
    failed = rng.random(rows) < 0.03
    prints = rng.choice(["fp_1", "fp_2"], rows, p=[0.9, 0.1])
    manifests: list[Mapping[str, Any]] = [
        {**(CAND if a else BASE), "system_fingerprint": None if f else p, **({"model_version": None} if f else {})}
        for a, f, p in zip(arm, failed, prints, strict=True)
    ]
    return calls(
        manifests, ts.tolist(), surface=[f"s-{name}"] * rows, experiment_id=[name] * rows,
        variant=["candidate" if a else "baseline" for a in arm], unit_id=[f"{name}-u{k}" for k in rng.integers(0, rows // 2, rows)],
        refused=(rng.random(rows) < 0.03).tolist(), latency_ms=np.exp(rng.normal(6, 0.5, rows)).tolist(),
    )  # fmt: skip


def known(store: Store, name: str | None = None) -> None:
    fields = ("prompt_name", "prompt_version", "prompt_sha256", "model", "params_sha256", "tools_sha256")
    register(store, *(registration({f: m[f] for f in fields}) for m in (BASE, CAND)))


@pytest.fixture
def store(tmp_path: Path):
    with Store(tmp_path / "store.duckdb") as made:
        yield made


def codes(found: list[Any]) -> dict[str, str]:
    return {f.code: f.severity for f in found}


def everything(store: Store, have: Registry | None = None, as_of_us: int = 2**61) -> list[Any]:
    rows, hours = (seen.history(store, seen.Asked(as_of_us, store.last_file(), hours=h)) for h in (False, True))
    have = have if have is not None else registry(store)
    return integrity(rows, have, as_of_us=as_of_us, hourly=lambda: hours)


def changed(columns: dict[str, list[Any]], field: str, value: Any, when: Any) -> dict[str, list[Any]]:
    """Return the calls with another value where `when(row)` holds."""
    names = list(columns)
    rows = [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return {**columns, field: [value if when(row) else row[field] for row in rows]}


FULL = os.environ.get("ABTEST_CALIBRATE") == "full"


def test_a_hundred_healthy_logs_have_no_finding(store: Store):
    """The rules on all hundred; with the watch on metrics (which reads every call again) on each tenth, or all in full."""
    names = [f"e{seed:03d}" for seed in range(100)]
    parts = [release(np.random.default_rng(seed), name, rows=700) for seed, name in enumerate(names)]
    add(store, {key: [v for part in parts for v in part[key]] for key in parts[0]})
    known(store)
    end, last, have = BEGIN + WEEK, store.last_file(), registry(store)
    assert everything(store, as_of_us=end) == []
    for k, name in enumerate(names):
        rows = calls_of_release(store, experiment(name), end, last)
        assert sum(r.calls for r in rows) == 700
        hours = calls_of_release(store, experiment(name), end, last, hours=True)
        assert integrity(rows, have, as_of_us=end, release=True, hourly=lambda hours=hours: hours) == [], name
        assert mixed(experiment(name), rows) == [], name
        if FULL or k % 10 == 0:
            assert release_findings(store, experiment(name), end) == [], name
    assert versions(store, last="1d").findings == ()


def test_every_code_is_in_the_closed_list():
    from abtest.lineage import findings, silent_swap
    from abtest.lineage import integrity as rules

    assert {*rules.CODES, *findings.CODES, *silent_swap.CODES} <= set(FINDING_CODES)


# -- provoked --------------------------------------------------------------------------------------------------------------


def test_a_version_whose_content_changed(store: Store):
    rows = release(np.random.default_rng(1))
    add(
        store,
        changed(
            rows, "prompt_sha256", "f" * 64, lambda r: r["variant"] == "candidate" and r["ts_us"] > BEGIN + 5 * DAY
        ),
    )
    found = release_findings(store, experiment())
    assert codes(found) == {"prompt_content_changed": "error"}
    assert "v13 has 2 contents: ffffffffffff beside bbbbbbbbbbbb" in found[0].message
    assert "7 Nov 2026" in found[0].message
    assert release_findings(store, experiment(), BEGIN + 5 * DAY) == []


def test_a_registered_version_with_another_content(store: Store):
    add(store, release(np.random.default_rng(1)))
    register(store, registration({"prompt_name": "answer", "prompt_version": "v13", "prompt_sha256": "e" * 64}))
    found = release_findings(store, experiment())
    assert codes(found)["prompt_content_changed"] == "error"
    assert "registered is eeeeeeeeeeee" in next(f.message for f in found if f.code == "prompt_content_changed")


def test_prompts_without_a_name_may_share_a_version_unless_it_changed(store: Store):
    rng = np.random.default_rng(1)
    for digest in ("a", "b"):  # two prompts of one surface, both "1", side by side
        add(store, steady({"prompt_version": "1", "prompt_sha256": digest, "model": "m"}, BEGIN, BEGIN + DAY, 200, rng))
    assert everything(store) == []
    add(
        store,
        steady({"prompt_version": "1", "prompt_sha256": "c", "model": "m"}, BEGIN + DAY, BEGIN + 2 * DAY, 100, rng),
    )
    assert codes(everything(store)) == {"prompt_content_changed": "error"}


def test_two_manifests_inside_one_arm(store: Store):
    rows = release(np.random.default_rng(1))
    one = changed(rows, "params_sha256", "p2", lambda r: r["variant"] == "candidate" and r["ts_us"] % 3 == 0)
    add(store, one)
    found = release_findings(store, experiment())
    assert codes(found) == {"mixed_manifests": "error"}
    assert "candidate runs 2 different params on s-swap: p1 (" in found[0].message


def test_an_agent_whose_calls_differ_in_both_arms_is_a_warning(store: Store):
    add(store, changed(release(np.random.default_rng(1)), "tools_sha256", "t2", lambda r: r["ts_us"] % 2 == 0))
    found = release_findings(store, experiment())
    assert [(f.code, f.severity) for f in found] == [("mixed_manifests", "warning")] * 2


def test_parameters_made_for_every_call_are_no_version(store: Store):
    rows = release(np.random.default_rng(1))
    add(store, {**rows, "params_sha256": [f"p{k}" for k in range(len(rows["ts_us"]))]})
    assert release_findings(store, experiment()) == []


def test_another_model_answers_than_was_asked_for(store: Store):
    rows = release(np.random.default_rng(1))
    add(
        store,
        changed(
            rows, "model_version", "claude-haiku-4-5", lambda r: r["variant"] == "candidate" and r["model_version"]
        ),
    )
    found = release_findings(store, experiment())
    assert codes(found) == {"silent_swap": "error"}
    assert "claude-sonnet-4-5 was asked for on s-swap, claude-haiku-4-5 answered" in found[0].message


def test_the_answering_model_changed_under_an_alias(store: Store):
    rows = release(np.random.default_rng(1))
    late = lambda r: r["variant"] == "baseline" and r["model_version"] and r["ts_us"] > BEGIN + 5 * DAY  # noqa: E731
    add(store, changed(rows, "model_version", "gpt-4o-2024-11-20", late))
    found = release_findings(store, experiment())
    assert codes(found) == {"response_model_changed": "error"}
    assert "answered by gpt-4o-2024-11-20 instead of gpt-4o-2024-08-06" in found[0].message
    assert codes(everything(store)) == {"response_model_changed": "warning"}


def test_a_deployment_name_says_nothing_until_its_answers_change(store: Store):
    rng = np.random.default_rng(1)
    add(store, steady({"model": "support-eu", "model_version": "gpt-4o-2024-08-06"}, BEGIN, BEGIN + DAY, 100, rng))
    assert everything(store) == []
    add(store, steady({"model": "support-eu", "model_version": "gpt-4o-mini"}, BEGIN + DAY, BEGIN + 2 * DAY, 100, rng))
    assert codes(everything(store)) == {"response_model_changed": "warning"}


def test_a_fingerprint_changed(store: Store):
    rows = release(np.random.default_rng(1))
    late = lambda r: r["variant"] == "baseline" and r["system_fingerprint"] and r["ts_us"] > BEGIN + 5 * DAY  # noqa: E731
    add(store, changed(rows, "system_fingerprint", "fp_9", late))
    found = release_findings(store, experiment())
    assert codes(found) == {"fingerprint_changed": "warning"}
    assert "changed from fp_1 to fp_9" in found[0].message


def test_what_runs_and_was_never_registered(store: Store):
    add(store, release(np.random.default_rng(1)))
    register(store, registration({"prompt_name": "answer", "prompt_version": "v12", "model": "gpt-4o"}))
    found = release_findings(store, experiment())
    assert codes(found) == {"unregistered_version": "warning"}
    assert "v13" in found[0].message
    assert "v12" not in found[0].message


def test_a_registry_of_another_prompt_or_surface_says_nothing(store: Store):
    add(store, release(np.random.default_rng(1)))
    register(
        store, registration({"prompt_name": "rank", "prompt_version": "r1", "model": "gpt-4o", "surface": "search"})
    )
    assert release_findings(store, experiment()) == []


def test_a_retired_version_that_still_runs(store: Store):
    """Retirement is by the clock, calls by their own time: these calls come tomorrow."""
    import time

    shift = time.time_ns() // 1000 - BEGIN
    rows = release(np.random.default_rng(1))
    rows["ts_us"] = [t + shift for t in rows["ts_us"]]
    add(store, rows)
    known(store)
    assert release_findings(store, experiment()) == []
    retire(store, "v13")
    found = release_findings(store, experiment())
    assert codes(found) == {"retired_running": "error"}
    assert "v13" in found[0].message
    label(store, "candidate", "v13")
    retire(store, "v12")
    assert set(codes(release_findings(store, experiment())).values()) == {"warning"}  # the old one is in the baseline


def test_what_was_registered_and_never_ran(store: Store):
    import time

    ahead = time.time_ns() // 1000 + 2 * DAY
    add(store, calls([V12], [ahead]))
    register(store, registration({"prompt_name": "answer", "prompt_version": "v12", "model": "gpt-4o"}))
    register(store, registration({"prompt_name": "answer", "prompt_version": "v14", "model": "gpt-4o"}))
    found = everything(store, as_of_us=ahead)
    assert codes(found) == {"never_ran": "info"}
    assert "v14" in found[0].message
    assert everything(store, as_of_us=ahead - 2 * DAY) == []  # just registered


# -- replay and reach ------------------------------------------------------------------------------------------------------


def test_findings_of_a_moment_do_not_change(store: Store, monkeypatch: pytest.MonkeyPatch):
    rows = release(np.random.default_rng(4), rows=1500)
    late = lambda r: r["ts_us"] > BEGIN + 4 * DAY  # noqa: E731
    rows = changed(rows, "prompt_sha256", "f" * 64, late)
    half = {key: column[:900] for key, column in rows.items()}
    rest = {key: column[900:] for key, column in rows.items()}
    first = add(store, half)
    moment = half["ts_us"][-1]
    before = release_findings(store, experiment(), moment, first)
    assert before
    add(store, {**rest, "ts_us": [t - 3 * DAY for t in rest["ts_us"]]})  # late rows, of the time before
    known(store)
    seq = 1
    assert release_findings(store, experiment(), moment, first, before_seq=seq) == before
    now = release_findings(store, experiment(), moment)
    monkeypatch.setattr(seen, "WORTH_IT", 10)  # and from the kept hours
    assert release_findings(store, experiment(), moment) == now
    assert release_findings(store, experiment(), moment, first, before_seq=seq) == before


def test_arms_that_only_their_manifest_tells(store: Store):
    rows = release(np.random.default_rng(1))
    rows = changed(rows, "params_sha256", "p2", lambda r: r["variant"] == "candidate" and r["ts_us"] % 3 == 0)
    add(store, {k: v for k, v in rows.items() if k not in ("experiment_id", "variant")})
    spec = experiment(arms={"baseline": {"prompt_version": "v12"}, "candidate": {"prompt_version": "v13"}})
    assert codes(release_findings(store, spec)) == {"mixed_manifests": "error"}
    assert release_findings(store, experiment()) == []  # nothing names the arms


def test_other_traffic_is_not_the_release(store: Store):
    rows = release(np.random.default_rng(1))
    add(store, rows)
    add(
        store,
        changed(
            {**rows, "experiment_id": ["other"] * len(rows["ts_us"])},
            "model_version",
            "gpt-4o-mini",
            lambda r: r["variant"] == "baseline",
        ),
    )
    assert release_findings(store, experiment()) == []
    assert "silent_swap" in codes(release_findings(store, experiment("other")))
    narrow = experiment("other", population={"where": "surface = 'elsewhere'"})
    assert release_findings(store, narrow) == []


def test_too_many_versions_are_one_warning(store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(seen, "MOST", 20)
    rows = release(np.random.default_rng(1))
    add(store, {**rows, "prompt_sha256": [f"{k}" for k in range(len(rows["ts_us"]))]})
    assert codes(release_findings(store, experiment())) == {"version_churn": "warning"}


def test_no_calls_no_findings(store: Store):
    assert release_findings(store, experiment()) == []


# -- models ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "answered", "swap"),
    [
        ("gpt-4o", "gpt-4o-2024-08-06", False), ("gpt-4o", "gpt-4o-mini", True), ("gpt-4o", "gpt-4o-mini-2024-07-18", True),
        ("claude-sonnet-4", "claude-sonnet-4-5", True), ("claude-sonnet-4-5", "claude-sonnet-4-5-20250929", False),
        ("claude-3-5-sonnet-latest", "claude-3-5-sonnet-20241022", False), ("gemini-1.5-pro", "gemini-1.5-pro-002", False),
        ("gpt-4", "gpt-4-0613", False), ("gpt-4", "gpt-4-turbo-2024-04-09", True), ("openai/gpt-4o", "gpt-4o-2024-11-20", False),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-sonnet-4-5-20250929", False), ("gpt-5", "gpt-5.1", True),
        ("gpt-4o-2024-08-06", "gpt-4o-2024-11-20", True), ("gpt-4o-2024-08-06", "gpt-4o", False), ("gpt-4o", "2024-08-06", False),
        ("support-eu", "gpt-4o", False), ("claude-sonnet-4-5", "gpt-4o", True), ("o3", "o3-mini", True), ("GPT-4o", "gpt-4o", False),
        ("claude-3-opus@20240229", "claude-3-opus-20240229", False), ("gpt-3.5-turbo", "gpt-35-turbo", False), ("llama3.1", "llama3.1:70b", True),
        ("models/gemini-2.0-flash", "gemini-2.0-flash-001", False), ("gpt-4o", "gpt-4o-audio-preview", True),
    ],
)  # fmt: skip
def test_aliases_are_no_swaps(asked: str, answered: str, swap: bool):
    assert is_swap(asked, answered) is swap


def test_model_names_of_any_length_are_read_at_once():
    import time

    start = time.perf_counter()
    for text in ("gpt-4o" + "-1" * 50_000, "a/" * 50_000 + "b", "gpt" + "-0000" * 50_000 + "x"):
        is_swap("gpt-4o", text)
        is_alias(text, "gpt-4o")
    assert time.perf_counter() - start < 1.0
