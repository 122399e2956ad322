"""What indexes say against a release: from its calls alone, and from recorded looks. Same watermark, same findings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from abtest.analysis.evidence import strata_of
from abtest.analysis.read import facts_of, scan_of
from abtest.analysis.times import to_text
from abtest.display import format_time, shorten
from abtest.lineage.index_checks import IndexCheck, index_checks
from abtest.lineage.index_versions import MINOR, Usage, index_name, quoted, since_words, usage_findings
from abtest.results import Finding, Severity
from abtest.spec import Experiment
from abtest.store.query import Query, Scan, fill, query
from abtest.store.store import Store

INDEX_VERSION = "index_embedding_model_version"
"""Key of `attributes` by which a call says what its index was made with; then a mismatch shows in the call itself."""


def index_findings(store: Store, experiment: Experiment, as_of_us: int, max_file: int) -> list[Finding]:
    """Return what can hold the release of an experiment because of its indexes; severity "error" holds.

    From the logs: queries of several embedding models to one index, in one arm or in several (at most one of them can
    fit); calls that say themselves that query and index differ (attribute `index_embedding_model_version`); calls of a
    version that a recorded look did not find in the index. From recorded looks (`--record`): everything they found.
    Up to 1 % of the calls is a warning, as for mixed versions.

    Args:
        store: An open store.
        experiment: What is asked; arms and population are those of its analysis.
        as_of_us: Watermark by event time.
        max_file: Watermark by load.
    """
    rows = _calls(store, experiment, as_of_us, max_file)
    found = usage_findings(_usages(rows))
    found += _own_mismatch(rows)
    for check in _concerning(store, experiment, rows, as_of_us, max_file):
        found += _recorded(check)
        found += _since_check(check, rows)
    return found


def _concerning(
    store: Store, experiment: Experiment, rows: Sequence[Mapping[str, Any]], as_of_us: int, max_file: int
) -> list[IndexCheck]:
    """Return the recorded looks that concern it: one at an index, who uses it; one that names no index, who uses any."""
    names = {str(r["index_id"]) for r in rows if r["index_id"] is not None}
    return [
        check
        for check in index_checks(store, experiment.id, as_of_us=as_of_us, max_file=max_file)
        if check.experiment is not None or check.index_id in names or (check.index_id is None and rows)
    ]


def _calls(store: Store, experiment: Experiment, as_of_us: int, max_file: int) -> list[dict[str, Any]]:
    """Return the calls of the experiment by arm, index and versions."""
    engine = store.engine
    scan = scan_of(experiment, strata_of(experiment, as_of_us, ()), as_of_us=as_of_us, max_file=max_file)
    scan = scan.at(facts=facts_of(engine, scan), measures=(), extra=frozenset({"attributes"}))
    if scan.manifests and not engine.rows(*scan.arms_in_logs())[0]["n"]:
        scan = scan.at(derive_arms=True)
    if scan.facts.assignments:
        engine.keep("assigned", *scan.assigned())
    return engine.rows(*arms_query(scan))


def arms_query(scan: Scan) -> Query:
    """Return the query of an experiment's calls by arm, index and versions."""
    params = scan.params()
    # Text that does not hold the key is not parsed: attributes may be long, and most calls say nothing of the kind.
    key = f"case when i.\"attributes\" like '%{INDEX_VERSION}%' then i.\"attributes\" ->> '$.{INDEX_VERSION}' end"
    return query(fill("index_arms", calls=scan.calls(params, {}, manifest=True, segment=key)), params)


def _usages(rows: Iterable[Mapping[str, Any]]) -> list[Usage]:
    """Return the calls by index and version, arms together: two arms with two models on one index do not fit either."""
    merged: dict[tuple[str | None, str | None], list[Mapping[str, Any]]] = {}
    for row in rows:
        merged.setdefault((row["index_id"], row["version"]), []).append(row)
    return [
        Usage(*key, sum(int(r["calls"]) for r in same), min(int(r["first_us"]) for r in same), max(int(r["last_us"]) for r in same))
        for key, same in sorted(merged.items(), key=str)
    ]  # fmt: skip


def _own_mismatch(rows: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """Return, for each arm, the calls whose log says that query and index are of different models."""
    found: list[Finding] = []
    for arm in sorted({str(r["arm"]) for r in rows if r["arm"] is not None}):
        told = [r for r in rows if r["arm"] == arm and r["version"] is not None and r["index_version"] is not None]
        wrong = [r for r in told if r["version"] != r["index_version"]]
        if wrong:
            calls, bad = sum(int(r["calls"]) for r in told), sum(int(r["calls"]) for r in wrong)
            first = min(wrong, key=lambda r: (int(r["first_us"]), str(r["version"]), str(r["index_version"])))
            words = (
                f"{shorten(arm, 40)}: {bad:,} of {calls:,} calls embedded their query with {quoted(first['version'])} for "
                f"{index_name(first['index_id'])} of {quoted(first['index_version'])}{since_words(int(first['first_us']))}"
            )
            found.append(Finding("index_query_mismatch", _severity(bad, calls), None, words))
    return found


def _recorded(check: IndexCheck) -> list[Finding]:
    """Return what a recorded look found, with its date; what it only mentions holds nothing."""
    if not check.exit_code:
        return []
    when = format_time(to_text(check.as_of_us)) if check.as_of_us else "no logs yet"
    return [
        Finding(
            f["code"], f["severity"], None, f"{f['message']} (recorded look at {index_name(check.index_id)}, {when})"
        )
        for f in check.body["findings"]
        if f["severity"] in ("error", "critical")
    ]


def _since_check(check: IndexCheck, rows: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """Return calls of a version that the last look did not find in the index, if they go on after it."""
    indexes: Sequence[Mapping[str, Any]] = check.body.get("indexes", ())
    if check.kind != "drift" or check.exit_code or len(indexes) != 1 or check.index_id is None:
        return []
    known = {v["embedding_model_version"] for v in indexes[0]["versions"]}
    if None in known:
        return []
    mine = [r for r in rows if r["index_id"] == check.index_id and r["version"] is not None]
    later = [r for r in mine if r["version"] not in known and int(r["last_us"]) > check.as_of_us]
    if not later:
        return []
    calls, bad = sum(int(r["calls"]) for r in mine), sum(int(r["calls"]) for r in later)
    versions = ", ".join(sorted({quoted(r["version"]) for r in later}))
    words = (
        f"{bad:,} of {calls:,} queries to {index_name(check.index_id)} were embedded with {versions}, which the last recorded look did "
        f"not find in it{since_words(min(int(r['first_us']) for r in later))}"
    )
    return [Finding("index_query_mismatch", _severity(bad, calls), None, words)]


def _severity(bad: int, calls: int) -> Severity:
    return "warning" if bad <= MINOR * calls else "error"


def index_looks(store: Store, experiment: Experiment, as_of_us: int, max_file: int) -> list[dict[str, Any]]:
    """Return the newest recorded looks that concern an experiment, for its report: the JSON contracts, with a few words more.

    Args:
        store: An open store.
        experiment: What is asked.
        as_of_us: Watermark by event time.
        max_file: Watermark by load.

    Returns:
        One dict a look: `kind` ("drift" or "compare"), `index_id`, `recorded_as_of` (text) and the contract's keys.
    """
    if not index_checks(store, experiment.id, as_of_us=as_of_us, max_file=max_file):
        return []  # the usual case: no need to read the calls
    rows = _calls(store, experiment, as_of_us, max_file)
    return [
        {"kind": check.kind, "index_id": check.index_id, "recorded_as_of": to_text(check.as_of_us), **check.body}
        for check in _concerning(store, experiment, rows, as_of_us, max_file)
    ]
