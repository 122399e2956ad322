"""index-drift on real embeddings: what is mixed is found, from versions and from vectors; what is healthy stays quiet."""

import numpy as np
import pytest
from index_tools import at, calls, codes, embedded, write

import abtest as ab
from abtest.errors import InvalidInputError
from abtest.lineage.index_drift import index_drift
from abtest.store.store import Store


@pytest.fixture(scope="module")
def real():
    return embedded()


@pytest.fixture
def logs(tmp_path):
    def make(*groups):
        store = Store(tmp_path / f"{len(list(tmp_path.iterdir()))}.duckdb")
        report = store.ingest(
            write(tmp_path / f"{len(list(tmp_path.iterdir()))}.ndjson", [row for g in groups for row in g])
        )
        assert report.quarantined == 0
        return store

    return make


def versions(real, every=2):
    return ["e@2" if i % every == 0 else "e@1" for i in range(len(real.names))]


# --- the fixture -------------------------------------------------------------------------------------------------------


def test_the_fixture_is_two_real_spaces(real):
    same, other = np.sum(real.a * real.a, axis=1), np.sum(real.a * real.b, axis=1)
    assert same == pytest.approx(1.0)
    assert other.max() < 0.5
    # A query finds its own document with its own model, and not with the other one's vectors.
    hits = {name: np.mean(np.argmax(q @ d.T, axis=1) == np.arange(len(q))) for name, q, d in
            (("own", real.queries_a, real.a), ("mixed", real.queries_a, real.half()))}  # fmt: skip
    assert hits["own"] > 0.5 > hits["mixed"]


def test_storing_as_bytes_keeps_the_direction(real):
    packed = np.rint(real.a * 127 / np.abs(real.a).max(axis=1, keepdims=True))
    packed /= np.linalg.norm(packed, axis=1, keepdims=True)
    assert np.sum(packed * real.a, axis=1).min() > 0.9995
    rounded = real.a.astype(np.float16).astype(np.float64)
    rounded /= np.linalg.norm(rounded, axis=1, keepdims=True)
    assert np.sum(rounded * real.a, axis=1).min() > 0.9999


# --- inside the index --------------------------------------------------------------------------------------------------


def test_a_half_rebuilt_index_is_found_from_its_versions(real):
    updated = [at(30) if i % 2 == 0 else at(1) for i in range(len(real.names))]
    found = index_drift(real.index(real.half(), versions(real), updated_at=updated))
    assert codes(found) == [("index_mixed", "error")]
    assert found.exit_code == 30
    message = found.findings[0].message
    assert "120 rows of 'e@1'" in message
    assert "120 rows of 'e@2'" in message
    assert "since 3 Nov 2026, 06:00 UTC" in message  # when the second model began


def test_a_half_rebuilt_index_is_found_from_vectors_alone(real):
    chosen = np.random.default_rng(4).choice(len(real.names), 60, replace=False)
    found = index_drift(real.index(real.half()), probes=real.sample(real.a, chosen))
    assert codes(found) == [("index_mixed", "error"), ("index_unknown", "info")]
    (sample,) = found.samples
    fits = sum(i % 2 == 1 for i in chosen)
    assert (sample["compared"], sample["fits"]) == (60, fits)
    assert sample["share_lower"] < 0.5 < sample["share_upper"]
    assert sample["cosine_fits"] > 0.999 > 0.5 > sample["cosine_others"]


def test_an_index_of_another_model_is_found_though_its_name_is_right(real):
    found = index_drift(real.index(real.b, ["e@1"] * 240), probes=real.sample(real.a, range(40)))
    assert codes(found) == [("index_query_mismatch", "error")]
    assert "although all of it is called 'e@1'" in found.findings[0].message


def test_a_perturbed_model_is_another_model(real):
    rng = np.random.default_rng(1)
    turned = real.a + rng.normal(0, 0.02, real.a.shape)  # cosine about 0.93
    assert index_drift(real.index(turned), probes=real.sample(real.a, range(40))).exit_code == 30
    assert index_drift(real.index(turned), probes=real.sample(real.a, range(40)), epsilon=0.2).exit_code == 0


def test_one_odd_document_is_a_warning(real):
    vectors = real.a.copy()
    vectors[7] = real.b[7]
    found = index_drift(real.index(vectors, ["e@1"] * 240), probes=real.sample(real.a, range(40)))
    assert codes(found) == [("index_mixed", "warning")]
    assert found.exit_code == 0


def test_a_document_that_changed_is_stale_and_no_mixture(real):
    hashes = [f"h{i}" for i in range(240)]
    index = real.index(real.half(every=240), ["e@1"] * 240, source_sha256=hashes)  # the first one has another vector
    sample = [
        {**row, "source_sha256": "new" if i == 0 else f"h{i}"} for i, row in enumerate(real.sample(real.a, range(30)))
    ]
    found = index_drift(index, probes=sample)
    assert found.samples[0]["source_changed"] == 1
    assert codes(found) == []


def test_several_sizes_of_vectors_are_found(real):
    index = real.index(real.a, ["e@1"] * 240)
    index[3]["vector"] = index[3]["vector"][:256]
    index[4] |= {"dim": 256}
    found = index_drift(index, probes=[{"id": real.names[9], "vector": real.a[9][:100].tolist()}])
    assert [c for c, _ in codes(found)] == ["index_dims", "index_dims", "index_unknown"]
    assert "239 rows of 384, 1 rows of 256" in found.findings[0].message
    assert found.indexes[0]["wrong_dims"] == 1
    assert found.samples[0]["other_size"] == 1


def test_rows_without_versions_are_unknown_and_no_pass(real):
    found = index_drift([{"id": "a"}, {"id": "b"}])
    assert found.exit_code == 40
    assert found.status == "no_data"
    assert codes(found) == [("index_unknown", "warning")]
    assert index_drift().exit_code == 40


def test_two_indexes_in_one_export(real):
    rows = [
        {**r, "index_id": "kb-1" if i < 120 else "kb-2"}
        for i, r in enumerate(real.index(real.a, ["e@1"] * 120 + ["e@2"] * 120))
    ]
    found = index_drift(rows, probes=real.sample(real.a, range(20)))
    assert codes(found) == []
    assert [each["index_id"] for each in found.indexes] == ["kb-1", "kb-2"]
    assert [s["index_id"] for s in found.samples] == ["kb-1"]  # the samples are documents of the first


# --- documents ---------------------------------------------------------------------------------------------------------


def test_stale_missing_and_orphaned_documents():
    index = [{"id": f"d{i}", "embedding_model_version": "e@1", "source_sha256": f"h{i}"} for i in range(10)]
    index += [
        {"id": "d2", "embedding_model_version": "e@1", "source_sha256": "chunk of an old text"},
        {"id": "d9", "source_sha256": None},
    ]
    documents = [{"id": f"d{i}", "source_sha256": "new" if i == 5 else f"h{i}"} for i in range(1, 12)]
    found = index_drift(index, documents=documents)
    (part,) = found.documents
    assert part["stale"] == {"count": 2, "first": ["d2", "d5"]}
    assert part["missing"] == {"count": 2, "first": ["d10", "d11"]}
    assert part["orphaned"] == {"count": 1, "first": ["d0"]}
    assert part["unknown"] == {"count": 1, "first": ["d9"]}
    assert {c for c, _ in codes(found)} == {"index_stale", "index_missing", "index_orphaned", "index_unknown"}
    assert found.exit_code == 0  # warnings


# --- probes over time --------------------------------------------------------------------------------------------------


def test_a_silent_change_is_found_in_its_round(real):
    found = index_drift(probes=real.probes([real.a] * 20 + [real.b] * 4))
    assert codes(found) == [("embedding_changed", "error")]
    assert "since 2 Nov 2026, 20:00 UTC" in found.findings[0].message
    assert found.probes["rounds"] == 24
    assert found.exit_code == 30


def test_one_round_is_enough_when_the_pinned_vectors_are_given(real):
    found = index_drift(probes=real.probes([real.b]))
    assert codes(found) == [("embedding_changed", "error")]
    assert "(the first round: it was so before)" in found.findings[0].message


def test_a_change_that_went_back_is_a_warning(real):
    found = index_drift(probes=real.probes([real.a] * 10 + [real.b] * 2 + [real.a] * 3))
    assert codes(found) == [("embedding_changed", "warning")]
    assert "to 2 Nov 2026, 11:00 UTC, then it came back" in found.findings[0].message


def test_a_provider_that_sometimes_answers_with_another_model(real):
    mixed = real.a.copy()
    mixed[0] = real.b[0]
    found = index_drift(probes=real.probes([real.a] * 10 + [mixed] * 12))
    assert codes(found) == [("embedding_unstable", "error")]
    assert found.probes["detector"]["alarm"]
    once = index_drift(probes=real.probes([real.a] * 10 + [mixed] + [real.a] * 2), run_length_days=3650)
    assert codes(once)[0][0] == "embedding_unstable"


def test_a_small_drift_is_found_by_the_detector_and_only_warns(real):
    rng = np.random.default_rng(5)
    moved = real.a + rng.normal(0, 0.003, real.a.shape)
    moved /= np.linalg.norm(moved, axis=1, keepdims=True)
    assert np.sum(moved * real.a, axis=1).min() > 0.99
    found = index_drift(probes=real.probes([real.a] * 10 + [moved] * 40))
    assert codes(found) == [("embedding_unstable", "warning")]
    assert found.probes["detector"]["days"] == 365
    assert found.exit_code == 0


def test_probes_find_their_vectors_in_the_index(real):
    bare = [{k: v for k, v in row.items() if k != "stored_vector"} for row in real.probes([real.a] * 7)]
    # They never fitted: the provider has not changed, the index is of another model, or a part of it.
    found = index_drift(real.index(real.b, ["e@1"] * 240), probes=bare)
    assert codes(found) == [("index_query_mismatch", "error")]
    assert (found.probes["with_stored_vector"], found.probes["never_fitted"], found.probes["rounds"]) == (42, 6, 0)
    half = index_drift(real.index(real.half(), ["e@1"] * 240), probes=bare)
    assert codes(half) == [("index_mixed", "error")]
    assert "3 of 6 probes never fitted" in half.findings[0].message
    later = [
        {**row, "vector": new["vector"]} if row["ts"] >= at(5) else row
        for row, new in zip(bare, real.probes([real.b] * 7), strict=True)
    ]
    assert codes(index_drift(real.index(real.a, ["e@1"] * 240), probes=later)) == [("embedding_changed", "error")]
    alone = index_drift(probes=bare)
    assert alone.probes["with_own_first"] == 42
    assert codes(alone) == []


def test_the_detector_keeps_its_run_length():
    # Losses of a healthy provider that jitters: alarms must be a run length apart or more, on average.
    from abtest.lineage.index_probes import Probes, probe_report

    rng = np.random.default_rng(11)
    alarms = 0
    runs, rounds, days = 60, 240, 10  # hourly rounds, 10 days: as long as the declared run length
    for _ in range(runs):
        probes = Probes()
        for hour in range(rounds):
            angle = np.sqrt(2 * 0.01 * rng.exponential(0.02, size=4))
            probes.readings += [
                (
                    hour * 3_600_000_000,
                    f"p{i}",
                    np.array([np.cos(x), np.sin(x)], dtype=np.float32),
                    np.array([1, 0], dtype=np.float32),
                )
                for i, x in enumerate(angle)
            ]
        report, _ = probe_report(probes, {}, epsilon=0.01, days=days)
        alarms += report["detector"]["alarm"]
    # P(alarm within the run length) <= 1 for any detector; with the warm-up's largest loss as baseline it is far below.
    assert alarms <= 0.2 * runs


# --- queries -----------------------------------------------------------------------------------------------------------


def by_day(real, days, seed=2, size=50):
    rng = np.random.default_rng(seed)
    return [
        {"ts": at(24 * day + int(rng.integers(24))), "vector": pool[i].tolist()}
        for day, pool in enumerate(days)
        for i in rng.choice(len(pool), size, replace=False)
    ]


def test_other_questions_are_reported_and_hold_nothing(real):
    found = index_drift(queries=by_day(real, [real.queries_a[:60]] * 3 + [real.b] * 2))
    assert codes(found) == [("query_drift", "info")]
    assert found.exit_code == 0
    assert [b["drift"] for b in found.query_drift["batches"]] == [False, False, True, True]
    assert found.query_drift["batches"][2]["mean_shift"] > 3 * found.query_drift["batches"][0]["mean_shift"]


@pytest.mark.parametrize("kernel", ["energy", "mmd"])
def test_the_same_questions_are_no_drift(real, kernel):
    found = index_drift(queries=by_day(real, [real.queries_a] * 4), kernel=kernel)
    assert codes(found) == []


def test_queries_of_one_unit_count_once(real):
    # Forty rows a day of one user each: whole users are shuffled, so that two users alone are no evidence.
    rows = [{**r, "unit_id": f"u{r['ts'][:10]}-{i % 2}"} for i, r in enumerate(by_day(real, [real.queries_a, real.b]))]
    (batch,) = index_drift(queries=rows).query_drift["batches"]
    assert batch["pvalue"] is None or batch["pvalue"] > 0.1
    # Who was in the baseline is left out later.
    same = [{**r, "unit_id": "u"} for r in by_day(real, [real.queries_a, real.b])]
    (batch,) = index_drift(queries=same).query_drift["batches"]
    assert (batch["rows"], batch["status"]) == (0, "insufficient")


def test_versions_of_the_query_file_are_compared_too(real):
    rows = [{**r, "embedding_model_version": "e@2"} for r in by_day(real, [real.queries_a])]
    found = index_drift(real.index(real.a, ["e@1"] * 240), queries=rows)
    assert codes(found) == [("index_query_mismatch", "error")]


# --- logs --------------------------------------------------------------------------------------------------------------


def test_queries_that_do_not_fit_the_index_are_counted_with_their_beginning(real, logs):
    with logs(calls(300, version="e@1"), calls(20, version="e@2", hours=(40, 47), name="late")) as store:
        found = index_drift({"kb": real.index(real.a, ["e@1"] * 240)}, store=store)
        assert {c for c, _ in codes(found)} == {"index_query_mismatch", "index_queries_mixed"}
        message = next(f.message for f in found.findings if f.code == "index_query_mismatch")
        assert message.startswith(
            "20 of 320 queries to index kb (6.25 %) were embedded with 'e@2', the index holds 'e@1'"
        )
        assert "since 3 Nov 2026, 16:00 UTC" in message
        assert (found.indexes[0]["queries_compared"], found.indexes[0]["queries_mismatched"]) == (320, 20)
        usage = {u.embedding_model_version: u for u in found.queries}
        assert sum(n for _, n in usage["e@1"].hours) == 300
        assert len(usage["e@1"].hours) == 48


def test_a_trace_of_a_mismatch_is_said_and_holds_nothing(real, logs):
    with logs(calls(600, version="e@1"), calls(3, version="e@2", name="few")) as store:
        found = index_drift({"kb": real.index(real.a, ["e@1"] * 240)}, store=store)
        assert codes(found) == [("index_queries_mixed", "warning"), ("index_query_mismatch", "warning")]
        assert found.exit_code == 0


def test_calls_from_before_the_index_are_history(real, logs):
    with logs(
        calls(100, version="e@1", hours=(0, 20)), calls(100, version="e@2", hours=(24, 47), name="after")
    ) as store:
        rebuilt = real.index(real.b, ["e@2"] * 240, updated_at=[at(22)] * 240)
        found = index_drift({"kb": rebuilt}, store=store)
        assert codes(found) == [("embedding_switched", "warning")]
        assert found.exit_code == 0
        old = real.index(real.a, ["e@1"] * 240, updated_at=[at(0)] * 240)
        assert ("index_query_mismatch", "error") in codes(index_drift({"kb": old}, store=store))


def test_two_models_at_once_on_one_index(logs):
    with logs(calls(200, version="e@1"), calls(200, version="e@2")) as store:
        found = index_drift(store=store)
        assert codes(found) == [("index_queries_mixed", "error")]
        assert found.exit_code == 30
    with logs(calls(995, version="e@1"), calls(5, version="e@2")) as store:
        assert codes(index_drift(store=store)) == [("index_queries_mixed", "warning")]
    with logs(calls(200, version="e@1", index_id="kb-1"), calls(200, version="e@2", index_id="kb-2")) as store:
        assert codes(index_drift(store=store)) == []  # an upgrade by parallel index


def test_a_surface_and_a_moment_cut_the_logs(logs):
    other = [{**row, "surface": "search"} for row in calls(50, version="e@2", name="other")]
    with logs(calls(100, version="e@1"), other) as store:
        assert index_drift(store=store).exit_code == 30
        assert index_drift(store=store, surface="support").exit_code == 0
        assert index_drift(store=store, surface="nowhere").exit_code == 40
        early = index_drift(store=store, surface="support", as_of_us=1_793_577_600_000_000 + 3_600_000_000)
        assert 0 < sum(u.calls for u in early.queries) < 20


def test_an_export_without_a_name_beside_several_indexes_is_not_guessed(real, logs):
    with logs(calls(10, version="e@1", index_id="kb-1"), calls(10, version="e@2", index_id="kb-2")) as store:
        found = index_drift(real.index(real.a, ["e@3"] * 240), store=store)
        assert codes(found) == []
        assert found.indexes[0]["queries_compared"] == 0
        assert any("they are not compared" in note for note in found.notes)


# --- healthy -----------------------------------------------------------------------------------------------------------


def test_a_healthy_index_raises_nothing_over_a_hundred_runs(real):
    for seed in range(100):
        rng = np.random.default_rng(seed)
        fresh = rng.choice(240, 40, replace=False)
        stored = np.rint(real.a * 127 / np.abs(real.a).max(axis=1, keepdims=True)) if seed % 2 else real.a
        index = real.index(stored, ["e@1"] * 240, source_sha256=[f"h{i}" for i in range(240)])
        documents = [{"id": n, "source_sha256": f"h{i}"} for i, n in enumerate(real.names)]
        probes = real.probes([real.a] * 12, texts=4, noise=1e-4, seed=seed) + real.sample(real.a, fresh)
        found = index_drift(
            index, probes=probes, documents=documents, queries=by_day(real, [real.queries_a] * 3, seed, 25)
        )
        assert codes(found) == [], (seed, found.summary)
        assert found.exit_code == 0
        assert len(found.checked) == 6


# --- what it looks like ------------------------------------------------------------------------------------------------


def test_result_can_be_shown(real):
    found = ab.index_drift(real.index(real.half(), versions(real)), probes=real.probes([real.a] * 8))
    data = found.to_dict()
    assert data["schema"] == "abtest.index_drift/1"
    assert data["exit_code"] == 30
    assert found.summary in repr(found)
    assert "index_mixed" in found._repr_html_()
    assert found.to_polars().height == 2
    assert found.plot().to_dict()["usermeta"]["abtest"]["title"] == "Probe cosines over time"
    with pytest.raises(InvalidInputError):
        index_drift(real.index(real.a)).plot()


def test_names_of_versions_are_made_harmless():
    name = "<script>alert(1)</script>\x1b[31m"
    found = index_drift([{"id": "a", "embedding_model_version": name}, {"id": "b", "embedding_model_version": "e@1"}])
    assert "<script>" not in found._repr_html_()
    assert "\x1b" not in repr(found)


@pytest.mark.parametrize("wrong", [{"epsilon": 0.0}, {"epsilon": 1.0}, {"run_length_days": 0.0}])
def test_what_cannot_be_asked(wrong):
    with pytest.raises(InvalidInputError):
        index_drift([], **wrong)
