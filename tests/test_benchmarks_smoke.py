"""The benchmarks run, say why a peer is missing, and load nothing heavy; the numbers themselves are in docs/performance.md."""

import importlib
import os
import sys
from pathlib import Path

import pytest

from abtest.spec import Experiment
from abtest.store.store import Store
from benchmarks import stats_speed
from benchmarks.__main__ import PARTS, main
from benchmarks.nightly import hand, nightly, ours, pictures, rounds
from benchmarks.nightly.logs import Logs, add_days, make_store, metrics_of, spec_of, toml_of, write_ndjson
from benchmarks.peers import environment, study
from benchmarks.peers.environment import PEERS, Peer, PeerUnavailableError

WORKER = """
import sys
print("a peer may print", file=sys.stderr)
from serve import first, serve
serve({"double": lambda x: 2 * x, "first": lambda hits: first(hits), "die": lambda: sys.exit(3)})
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A peer whose environment is the one we run in."""
    workers = tmp_path / "workers"
    workers.mkdir()
    (workers / "serve.py").write_text((environment.WORKERS / "serve.py").read_text(encoding="utf-8"), encoding="utf-8")
    (workers / "for_toy.py").write_text(WORKER, encoding="utf-8")
    home = tmp_path / "environments" / "toy" / "bin"
    home.mkdir(parents=True)
    (home / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n', encoding="utf-8")
    (home / "python").chmod(0o755)
    (home.parent / ".installed").write_text("toy==1", encoding="utf-8")
    monkeypatch.setattr(environment, "WORKERS", workers)
    return lambda: Peer("toy", tmp_path / "environments", ("toy==1",))


@pytest.mark.skipif(os.name == "nt", reason="a shell script stands for the interpreter")
def test_a_peer_answers_line_by_line(toy):
    with toy() as peer:
        assert peer.ask("double", x=21) == 42
        assert peer.ask("first", hits=[False, True]) == 1
        assert peer.ask("first", hits=[False]) is None


@pytest.mark.skipif(os.name == "nt", reason="a shell script stands for the interpreter")
def test_a_peer_that_dies_is_unavailable(toy):
    with toy() as peer, pytest.raises(PeerUnavailableError, match="does not run"):
        peer.ask("die")


def test_what_does_not_install_has_a_reason(tmp_path):
    with pytest.raises(PeerUnavailableError, match="nowhere"), Peer("gbstats", tmp_path, ("./nowhere",)):
        pass


class Missing:
    def __init__(self, name, *_):
        self.name = name

    def __enter__(self):
        raise PeerUnavailableError(f"{self.name} has no wheel here")

    def __exit__(self, *_):
        return None


def test_everything_runs_without_any_peer(monkeypatch, capsys):
    monkeypatch.setattr(stats_speed, "Peer", Missing)
    monkeypatch.setattr(study, "Peer", Missing)
    monkeypatch.setattr(
        stats_speed, "import_seconds", lambda names: 0.1 * len(names)
    )  # seconds each, in fresh processes
    assert main(["stats", "peers", "--quick"]) == 0
    text = capsys.readouterr().out
    for name in PEERS:
        assert f"{name} is skipped: {name} has no wheel here" in text
    for words in (
        "`confidence_sequence`",
        "informed by the effect of interest",
        "rate ratio (exact)",
        "it loads: none",
    ):
        assert words in text


def test_imports_are_timed_in_fresh_processes():
    assert 0 < stats_speed.import_seconds("json") < 60


def test_parts_are_found_by_name():
    assert all(callable(importlib.import_module(module).run) for module in PARTS.values())
    with pytest.raises(SystemExit) as stop:
        main(["statz"])
    assert stop.value.code == 2


def test_intervals_are_near_the_bare_arithmetic():
    # A ratio within one run: checks and two passes over the looks may cost a few times the formula, not more.
    looks = stats_speed.random_looks()

    def times():
        bare = stats_speed.core_seconds(lambda: stats_speed.limit(looks), 5)
        call = lambda: stats_speed.mixture.confidence_sequence(  # noqa: E731
            looks.estimate, looks.variance, looks.v, looks.rho2, 0.05
        )
        return stats_speed.core_seconds(call, 5) / bare

    assert sorted(times() for _ in range(5))[2] < 10


# --- the nightly analysis ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (
            "nightly",
            ("abtest, three stages", "one stage with segments / bare scan", "tea-tasting is skipped", "hand-written"),
        ),
        ("metrics", ("| 12 |", "times one metric")),
        ("experiments", ("| 10 |", "times one SQL for all")),
        ("incremental", ("12, one with CUPED | 1 |", "12, none with CUPED | 1 |", "| yes |")),
        ("tick", ("| 30,000 | 2 |", "Decisions: ")),
        ("decide", ("Python and the same imports", "modules are loaded")),
        ("profile", ("pair_moments", "Python: judging")),
    ],
)
def test_nightly_parts_run(part, words, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(nightly, "Peer", Missing)
    assert main([part, "--quick", "--data", str(tmp_path / "logs")]) == 0
    text = capsys.readouterr().out
    for word in words:
        assert word in text
    assert "| NO |" not in text  # an increment that differs from the full recompute


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A store of 3,000 calls."""
    logs = Logs(3_000)
    return logs, make_store(logs, tmp_path_factory.mktemp("nightly") / "small.duckdb")


def test_hand_and_ours_agree(small, tmp_path):
    logs, store = small
    by_hand = hand.hand(str(store))["estimates"]
    hand._open(str(store)).close()
    own = make_store(logs, tmp_path / "own.duckdb")
    mine = ours.nightly(str(own), vars(logs))["estimates"]
    ours._open(str(own)).close()
    compared = [name for name in by_hand if mine[name] is not None]
    assert len(compared) >= 8
    for name in compared:
        assert mine[name] == pytest.approx(by_hand[name], rel=1e-9)


def test_days_added_one_by_one_are_the_same_logs(small, tmp_path):
    logs, store = small
    with Store(tmp_path / "days.duckdb") as other, Store(store, read_only=True) as whole:
        for day in range(30):
            add_days(other.connection, logs, day, day + 1)
        sql = "select * from interaction order by interaction_id"
        assert other.connection.execute(sql).fetchall() == whole.connection.execute(sql).fetchall()


def test_new_rows_are_taken_by_ingest(small, tmp_path):
    logs, _ = small
    write_ndjson(logs, logs.rows, logs.rows + 50, tmp_path / "new.ndjson")
    with Store(tmp_path / "new.duckdb") as store:
        report = store.ingest(tmp_path / "new.ndjson", source="native")
    assert (report.inserted, report.quarantined) == (50, 0)


@pytest.mark.parametrize("staged", [False, True])
def test_specs_read_the_same_as_toml(staged, tmp_path):
    spec = spec_of(Logs(1_000, staged=staged), segments=True)
    path = tmp_path / "experiment.toml"
    path.write_text(toml_of(spec), encoding="utf-8")
    assert Experiment.from_toml(path).model_dump() == Experiment.from_dict(spec).model_dump()
    assert len(metrics_of(100)) == len({m["name"] for m in metrics_of(100)}) == 100


def test_rounds_are_paired():
    answers = iter([{"seconds": s, "peak": None} for s in (9, 9, 2, 1, 6, 2)])
    found = rounds.take_turns({"a": lambda: next(answers), "b": lambda: next(answers)}, 2)
    assert rounds.ratio(found["a"], found["b"]).text() == "2.5 (2 to 3)"
    assert rounds.gigabytes(found["a"]) == "not known"
    assert rounds.quantile([3, 1, 2, 4], 0.5) == 3


def test_the_picture_shows_the_table():
    docs = Path(__file__).parents[1] / "docs"
    if not docs.exists():
        pytest.skip("docs are not beside the tests")
    text = (docs / "performance" / "nightly.svg").read_text(encoding="utf-8")
    page = (docs / "performance.md").read_text(encoding="utf-8")
    assert len(text.encode()) <= 20_000
    assert pictures.words(page) in text
    assert pictures.words(page).count(";") == 7
    assert "<script" not in text
