"""Pictures and report section of indexes: what they say in words, small, the same bytes on every run, harmless."""

from dataclasses import replace

import pytest
from index_tools import at, calls, embedded, write

from abtest.analysis.analyze import analyze
from abtest.charts import to_svg
from abtest.charts.index import probe_cosines, query_versions, recall_differences
from abtest.errors import InvalidInputError
from abtest.lineage.index_checks import record_check
from abtest.lineage.index_compare import index_compare
from abtest.lineage.index_drift import index_drift
from abtest.lineage.index_findings import index_looks
from abtest.report.context import Context
from abtest.report.model import Entry, Paragraph, Pictures
from abtest.report.sections.index import SECTION
from abtest.spec import Experiment
from abtest.store.store import Store

HOSTILE = "<script>alert(1)</script>"


def words_of(chart):
    return chart.to_dict()["usermeta"]["abtest"]["description"]


def comparison(name="new"):
    golden = [{"query_id": f"q{i}", "relevant": [f"d{i}"]} for i in range(60)]
    old = [{"query_id": f"q{i}", "ids": [f"d{i}"]} for i in range(60)]
    return index_compare(golden, {"old": old}, {name: old[:30], "same": old}, margin=0.1)


def test_recall_differences():
    chart = recall_differences(comparison(HOSTILE).to_dict())
    assert "worse" in words_of(chart)
    assert "may replace it" in words_of(chart)
    svg = to_svg(chart)
    assert "<script" not in svg
    assert len(svg) < 4000
    assert svg == to_svg(recall_differences(comparison(HOSTILE).to_dict()))
    with pytest.raises(InvalidInputError):
        recall_differences({"candidates": [], "margin": 0.1, "k": 10})


def test_probe_cosines_stay_small_over_months():
    series = [
        {"at": at(h % 600, h // 600), "median": 1.0 if h < 900 else 0.2, "lowest": 0.1, "readings": 5, "below": 0}
        for h in range(1200)
    ]
    chart = probe_cosines({"series": sorted(series, key=lambda p: p["at"]), "threshold": 0.99})
    assert "1200 rounds" in words_of(chart)
    assert "below the threshold 0.99 in 300 of them" in words_of(chart)
    assert len(to_svg(chart)) < 25_000
    with pytest.raises(InvalidInputError):
        probe_cosines({"series": [], "threshold": 0.99})


def test_query_versions_differ_by_more_than_colour():
    usages = [
        {"embedding_model_version": v, "hours": [{"hour": at(h), "calls": 5 + i} for h in range(4)]}
        for i, v in enumerate(["e@1", "e@2", HOSTILE])
    ]
    chart = query_versions(usages)
    assert "28 calls; e@2: 24 calls; e@1: 20 calls; from 2026-11-02 00:00 UTC" in words_of(chart)
    svg = to_svg(chart)
    assert "<script" not in svg
    assert "stroke-dasharray" in svg
    long = [
        {"embedding_model_version": f"text-embedding-3-large@2026-11-0{i}", "hours": usages[0]["hours"]} for i in (1, 2)
    ]
    assert {"…2026-11-01", "…2026-11-02"} <= {
        node.strip() for node in to_svg(query_versions(long)).replace("<", ">").split(">")
    }
    with pytest.raises(InvalidInputError):
        query_versions([])


@pytest.fixture
def context(tmp_path):
    experiment = Experiment.from_dict({
        "id": "swap", "control": "control", "treatments": ["candidate"],
        "metrics": [{"name": "errors", "kind": "proportion", "event": "is_error", "better": "lower"}],
    })  # fmt: skip
    with Store(tmp_path / "s.duckdb") as store:
        store.ingest(
            write(tmp_path / "l.ndjson", calls(30, version="e@1") + calls(30, version="e@1", variant="candidate"))
        )

        def make(*results):
            for result in results:
                record_check(store, result, experiment="swap")
            entry = Entry(analyze(store, experiment))
            return Context(replace(entry, looks=index_looks(store, experiment, 2**62, 2**62)))

        make.store = store
        yield make


def test_report_without_a_look_has_no_section(context):
    assert SECTION.build(context()) == []


def test_report_shows_the_newest_looks(context):
    index = [
        {"id": f"d{i}", "embedding_model_version": f"e@{1 + i % 2}", "source_sha256": "h", "index_id": "kb"}
        for i in range(10)
    ]
    drift = index_drift(index, documents=[{"id": "d1", "source_sha256": "new"}], store=context.store)
    blocks = SECTION.build(context(drift, comparison()))
    table = blocks[0]
    assert [row[0] for row in table.rows] == ["index comparison", "index drift"]
    assert [row[3].text for row in table.rows] == ["may replace it", "does not fit"]
    assert any(isinstance(b, Pictures) for b in blocks)
    (documents,) = (b for b in blocks if isinstance(b, Paragraph))
    assert documents.text == "Documents: 1 stale, 0 missing, 9 orphaned, of 1."
    versions = blocks[-2]
    assert {(row[1], row[2], row[3]) for row in versions.rows} == {
        ("index", "e@1", 5),
        ("index", "e@2", 5),
        ("queries", "e@1", 60),
    }


def test_probes_are_drawn_from_real_vectors():
    real = embedded()
    chart = index_drift(probes=real.probes([real.a] * 3 + [real.b])).plot()
    assert "in 1 of them" in words_of(chart)
