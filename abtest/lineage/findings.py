"""What versions and indexes say against a release: findings for `decide`, the same for the same moment, loads and registry."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from abtest.errors import TooManyVersionsError
from abtest.lineage.arms import calls_of_release
from abtest.lineage.index_findings import index_findings
from abtest.lineage.integrity import integrity, retired
from abtest.lineage.registry import registry
from abtest.lineage.seen import Seen, newest_call
from abtest.lineage.silent_swap import drift_findings
from abtest.results import Finding, Severity
from abtest.spec import Experiment
from abtest.store.store import Store

CODES = ("mixed_manifests", "version_churn")
_CONFIGURATION = ("params_sha256", "tools_sha256")
"""What the check `mixed_versions` does not look at; the other fields are its business."""
_SMALL = 0.01
_PER_CALL = 20
"""A field with more values than this in one arm is made for each call (a token limit, a user's own tools): no version."""


def release_findings(
    store: Store,
    experiment: Experiment,
    as_of_us: int | None = None,
    max_file: int | None = None,
    *,
    before_seq: int | None = None,
) -> list[Finding]:
    """Return what the versions and indexes that ran say about a release.

    Severity "error" holds it (its numbers are of something else than what is compared), "warning" and "info" only report.

    Args:
        store: An open store.
        experiment: The release.
        as_of_us: Calls up to this moment; default: the newest one.
        max_file: What was loaded up to here; default: everything.
        before_seq: The registry as it was before this entry of the ledger (replay of a decision); default: as it is.
    """
    as_of_us = newest_call(store) if as_of_us is None else as_of_us
    max_file = store.last_file() if max_file is None else max_file
    if as_of_us is None:
        return []
    found = _of_versions(store, experiment, as_of_us, max_file, before_seq)
    return [*found, *index_findings(store, experiment, as_of_us, max_file)]


def _of_versions(
    store: Store, experiment: Experiment, as_of_us: int, max_file: int, before_seq: int | None
) -> list[Finding]:
    try:
        rows = calls_of_release(store, experiment, as_of_us, max_file)
    except TooManyVersionsError as error:
        return [Finding("version_churn", "warning", None, f"{error.message}: versions were not checked ({error.hint})")]
    if not rows:
        return []
    have = registry(store, before_seq=before_seq)
    found = integrity(
        rows, have, as_of_us=as_of_us, release=True,
        hourly=lambda: calls_of_release(store, experiment, as_of_us, max_file, hours=True),
    )  # fmt: skip
    found += mixed(experiment, rows)
    if have:
        treated = [r for r in rows if r.variant in experiment.treatments]
        kept = [r for r in rows if r.variant == experiment.control]
        found += retired(treated, have, 0)
        found += [replace(f, severity="warning") for f in retired(kept, have, 0)]
    return found + drift_findings(store, experiment, rows, as_of_us, max_file)


def mixed(experiment: Experiment, rows: Sequence[Seen]) -> list[Finding]:
    """Find arms that run several parameters or tools on one surface.

    When both arms do (an agent's planning and answering calls), it is how the application works: a warning. When one does,
    it is two releases in one arm: an error.
    """
    found: list[Finding] = []
    for surface in sorted({r.surface for r in rows}, key=lambda s: (s is None, s or "")):
        for field in _CONFIGURATION:
            values = {
                arm: _values([r for r in rows if r.surface == surface and r.variant == arm], field)
                for arm in experiment.arm_names
            }
            several = {arm: v for arm, v in values.items() if 1 < len(_large(v)) <= _PER_CALL}
            severity: Severity = "error" if 0 < len(several) < sum(map(bool, values.values())) else "warning"
            for arm, counts in several.items():
                place = "" if surface is None else f" on {surface}"
                shares = ", ".join(
                    f"{v[:12]} ({100 * n / sum(counts.values()):.0f} %)" for v, n in counts.most_common(3)
                )
                text = f"{arm} runs {len(_large(counts))} different {field.removesuffix('_sha256')}{place}: {shares}"
                found.append(Finding("mixed_manifests", severity, None, text))
    return found


def _values(rows: Sequence[Seen], field: str) -> Counter[str]:
    counts: Counter[str] = Counter()
    for r in sorted(rows, key=lambda r: r.manifest.manifest_id):
        value = r.manifest.fields[field]
        if value is not None:
            counts[value] += r.calls
    return counts


def _large(counts: Counter[str]) -> list[str]:
    return [value for value, n in counts.items() if n > _SMALL * sum(counts.values())]
