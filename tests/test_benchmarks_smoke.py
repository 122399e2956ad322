"""The benchmarks run, say why a peer is missing, and load nothing heavy; the numbers themselves are in docs/performance.md."""

import importlib
import os
import sys

import pytest

from benchmarks import stats_speed
from benchmarks.__main__ import PARTS, main
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
    assert main(["--quick"]) == 0
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
