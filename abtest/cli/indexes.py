"""index-drift, index-compare: do an index and its queries fit, and may a new index replace the old one?"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from abtest.cli.common import DEFAULT_DB, AsOfOption, DbOption, JsonOption, emit, existing_store, moment, note, say

if TYPE_CHECKING:
    from abtest.lineage.index_results import IndexCompare, IndexDrift
    from abtest.store.store import Store

RecordOption = Annotated[
    bool,
    typer.Option(
        "--record", help="Write the result into the store: it holds the releases it concerns, and is in the report."
    ),
]
ExperimentOption = Annotated[
    str | None,
    typer.Option("--experiment", help="With --record: it concerns this experiment only.", metavar="ID"),
]
IndexIdOption = Annotated[
    str | None, typer.Option("--index-id", help="With --record: the index it concerns.", metavar="NAME")
]


def index_drift(
    index: Annotated[
        list[str] | None,
        typer.Option("--index", help="Export of the index: id, embedding_model_version, dim, source_sha256, updated_at, vector.",
                     metavar="[NAME=]FILE"),
    ] = None,
    probes: Annotated[
        Path | None,
        typer.Option("--probes", help="Pinned texts embedded anew (probe_id, ts, vector, stored_vector), and documents (id, vector).",
                     metavar="FILE"),
    ] = None,
    documents: Annotated[
        Path | None, typer.Option("--documents", help="The sources as they are now: id, source_sha256.", metavar="FILE")
    ] = None,
    queries: Annotated[
        Path | None, typer.Option("--queries", help="Query embeddings over time: ts, vector.", metavar="FILE")
    ] = None,
    surface: Annotated[
        str | None, typer.Option("--surface", help="Only calls of this surface.", metavar="S")
    ] = None,
    epsilon: Annotated[float, typer.Option("--epsilon", help="A cosine below 1 - epsilon is another direction.")] = 0.01,
    run_length: Annotated[
        float, typer.Option("--run-length", help="Days between false alarms of the probe detector, on average.", metavar="DAYS")
    ] = 365.0,
    kernel: Annotated[str, typer.Option("--kernel", help="Of the drift of queries: energy or mmd.")] = "energy",
    baseline_until: Annotated[
        str | None, typer.Option("--baseline-until", help="Queries before are the baseline. Default: the first day.", metavar="TS")
    ] = None,
    record: RecordOption = False,
    experiment: ExperimentOption = None,
    index_id: IndexIdOption = None,
    db: DbOption = DEFAULT_DB,
    as_of: AsOfOption = None,
    as_json: JsonOption = False,
) -> int:  # fmt: skip
    """Find mixed and mismatched embedding models, silent changes of the provider, stale documents, drift of the queries.

    Exit: 0 healthy, 30 mixed, mismatched or changed, 40 nothing to look at.

    Example: abtest index-drift --index support-kb=index.parquet --probes probes.ndjson --documents documents.ndjson
    """
    from abtest.errors import UsageError
    from abtest.lineage.index_checks import record_check
    from abtest.lineage.index_drift import index_drift as run
    from abtest.lineage.index_drift import merged, named_file

    if kernel not in ("energy", "mmd"):
        raise UsageError(f"{kernel!r} is no kernel", key="--kernel", hint="energy or mmd")
    files = merged([named_file(given) for given in index or []])
    given = any(each is not None for each in (files, probes, documents, queries))
    _record_options(record, experiment, index_id)
    with _store(db, needed=record or not given) as store:
        result = run(
            files, probes=probes, documents=documents, queries=queries, store=store, surface=surface, as_of_us=moment(as_of),
            epsilon=epsilon, run_length_days=run_length, kernel=kernel, baseline_until_us=_until(baseline_until),
        )  # fmt: skip
        if record and store is not None:
            record_check(store, result, index_id=index_id, experiment=experiment)
    return _show(result, as_json, record)


def index_compare(
    golden: Annotated[
        Path, typer.Option("--golden", help="Judged queries: query_id, relevant; or TREC qrels.", metavar="FILE", show_default=False)
    ],
    old: Annotated[
        str, typer.Option("--old", help="What the index in use retrieved: query_id, ids; or a TREC run.", metavar="[NAME=]RUN",
                          show_default=False)
    ],
    new: Annotated[
        list[str], typer.Option("--new", help="What a new index retrieved; may be given several times.", metavar="[NAME=]RUN",
                                show_default=False)
    ],
    k: Annotated[int, typer.Option("--k", "-k", help="Cut-off of every metric.")] = 10,
    margin: Annotated[float, typer.Option("--margin", help="Largest mean loss of recall that is accepted.")] = 0.01,
    alpha: Annotated[float, typer.Option("--alpha", help="Error level of 'not worse'.")] = 0.05,
    alpha_halt: Annotated[float, typer.Option("--alpha-halt", help="Error level of 'worse'.")] = 0.01,
    planned: Annotated[
        int | None, typer.Option("--planned", help="Size of the golden set when it is complete, if it still grows.", metavar="N")
    ] = None,
    record: RecordOption = False,
    experiment: ExperimentOption = None,
    index_id: IndexIdOption = None,
    db: DbOption = DEFAULT_DB,
    as_json: JsonOption = False,
) -> int:  # fmt: skip
    """Compare indexes on the same golden queries: recall, nDCG, MRR, overlap, latency, cost, and a gate to the alias swap.

    Exit: 0 promote, 10 hold, 20 halt, 40 no data.

    Example: abtest index-compare --golden golden.ndjson --old kb-1=old.ndjson --new kb-2=new.ndjson --margin 0.01
    """
    from abtest.errors import UsageError
    from abtest.lineage.index_checks import record_check
    from abtest.lineage.index_compare import index_compare as run
    from abtest.lineage.index_drift import named_file

    _record_options(record, experiment, index_id)
    runs = [_named_run(*named_file(given)) for given in (old, *new)]
    names = [name for name, _ in runs]
    if len(set(names)) < len(names):
        raise UsageError(f"two runs have one name: {', '.join(names)}", key="--new", hint="write NAME=FILE")
    result = run(
        golden, dict(runs[:1]), dict(runs[1:]), k=k, margin=margin, alpha=alpha, alpha_halt=alpha_halt, planned_queries=planned
    )  # fmt: skip
    if record:
        with _store(db, needed=True) as store:
            assert store is not None
            record_check(store, result, index_id=index_id, experiment=experiment)
    return _show(result, as_json, record)


def add(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command("index-drift")(index_drift)
    app.command("index-compare")(index_compare)


@contextmanager
def _store(db: Path, *, needed: bool) -> Generator[Store | None]:
    """Open the store; without one the files alone are compared, unless there are none."""
    if not needed and not db.exists():
        note(f"abtest: there is no store {db}: only the files are compared")
        yield None
        return
    with existing_store(db) as store:
        yield store


def _record_options(record: bool, experiment: str | None, index_id: str | None) -> None:
    from abtest.errors import UsageError

    if not record and (experiment is not None or index_id is not None):
        raise UsageError("says what a recorded result concerns", key="--experiment, --index-id", hint="add --record")


def _until(text: str | None) -> int | None:
    from abtest.analysis.times import parse_moment

    return parse_moment(text, key="--baseline-until") if text else None


def _named_run(name: str | None, path: Path) -> tuple[str, Path]:
    return name or path.name.split(".")[0] or str(path), path


def _show(result: IndexDrift | IndexCompare, as_json: bool, recorded: bool) -> int:
    if as_json:
        emit(result.to_dict())
    else:
        say(repr(result))
        if recorded:
            say("recorded: `abtest decide` and the report see it from now on")
    return result.exit_code
