"""What is kept of a tradeoff (table tradeoff_check), and the finding by which it can hold a release."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from abtest.analysis.times import parse_moment
from abtest.results import Finding
from abtest.spec import Experiment, canonical_json
from abtest.store.store import Store

if TYPE_CHECKING:
    from abtest.tradeoff.results import Tradeoff


def record(store: Store, found: Tradeoff) -> None:
    """Write a tradeoff down; it stays as it was said, with the hash of the policy it was said under."""
    body = canonical_json(found.to_dict())
    store.connection.execute(
        """insert into tradeoff_check (id, revision, experiment, as_of, file_id, recorded_us, policy_sha256, verdict, choice, body)
        values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
        [
            found.id, found.revision, found.experiment, found.as_of, store.last_file(), time.time_ns() // 1000, found.policy_sha256,
            found.verdict, found.choice, body,
        ],
    )  # fmt: skip


def latest(store: Store, experiment: str, *, max_file: int | None = None) -> list[dict[str, Any]]:
    """Return the newest recorded tradeoff of every id about an experiment, as `abtest.tradeoff/1`, in the order of the ids.

    Args:
        store: An open store.
        experiment: `experiment_id` of the logs.
        max_file: Leave out what was recorded after this load (the replay of a decision).
    """
    rows = store.connection.execute(
        "select id, body from tradeoff_check where experiment = ? and file_id <= ? order by id, recorded_us",
        [experiment, 2**62 if max_file is None else max_file],
    ).fetchall()
    newest = {str(name): json.loads(body) for name, body in rows}
    return [newest[name] for name in sorted(newest)]


def findings(
    store: Store, experiment: Experiment, as_of_us: int | None = None, max_file: int | None = None
) -> list[Finding]:
    """Return what recorded tradeoffs say about the release of an experiment, to be passed to `decide(..., findings=...)`.

    A treatment that a recorded tradeoff rules out (proven worse in quality, dearer or too slow) is dominated: `tradeoff_dominated`, severity
    error. One that is not decided yet gives `tradeoff_open`, severity info. Treatments without a tradeoff give nothing.

    Args:
        store: An open store.
        experiment: The release; its `id` is the experiment of the tradeoff, its control the baseline.
        as_of_us: Tradeoffs that saw later events are left out.
        max_file: Tradeoffs recorded after this load are left out.
    """
    out: list[Finding] = []
    for found in latest(store, experiment.id, max_file=max_file):
        seen = parse_moment(str(found["as_of"])) if found["as_of"] else 0
        if as_of_us is not None and seen > as_of_us:
            continue
        for comparison in found["comparisons"]:
            finding = _finding(found, comparison, experiment)
            if finding is not None:
                out.append(finding)
    return out


def _finding(found: Mapping[str, Any], comparison: Mapping[str, Any], experiment: Experiment) -> Finding | None:
    technique, verdict = str(comparison["technique"]), str(comparison["verdict"])
    if technique not in experiment.treatments or found["baseline"] != experiment.control:
        return None
    where = f"tradeoff {found['id']} (as of {found['as_of']})"
    if verdict == "keep":
        message = f"{technique} is dominated by {found['baseline']}, says {where}: {comparison['reason']}"
        return Finding("tradeoff_dominated", "error", None, message)
    if verdict == "undecided":
        return Finding(
            "tradeoff_open", "info", None, f"{where} has not decided about {technique}: {comparison['reason']}"
        )
    return None
