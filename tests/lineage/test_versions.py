"""What ran, and when: the question of 2 am, against a simulated history whose truth is known call by call."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from lineage_logs import BEGIN, DAY, HOUR, MINUTE, V12, V13, add, calls, steady

from abtest.errors import UsageError
from abtest.lineage import seen
from abtest.lineage.manifest import FIELDS, Manifest, whole_of
from abtest.lineage.versions import versions
from abtest.store.state import rebuild
from abtest.store.store import Store

OTHER = {
    "prompt_name": "rank",
    "prompt_version": "r1",
    "model": "gpt-4o-mini",
    "model_version": "gpt-4o-mini-2024-07-18",
}
SHADOW = {**V13, "model": "claude-sonnet-4-5", "model_version": "claude-sonnet-4-5-20250929"}


class History:
    """Five days of calls on three surfaces, in several loads, not in the order of time within a load."""

    def __init__(self, folder: Path, rows: int = 24_000, seed: int = 11) -> None:
        rng = np.random.default_rng(seed)
        self.ts = rng.integers(BEGIN, BEGIN + 5 * DAY, rows)
        self.surface = rng.choice(np.array(["support", "search", None], dtype=object), rows, p=[0.6, 0.3, 0.1])
        draw = rng.random(rows)
        day = (self.ts - BEGIN) / DAY
        ramp = np.select(
            [day < 1, day < 2.3, day < 2.7, day < 3], [0.0, 0.1, 0.8, 0.0], 0.5
        )  # up, a rollback, up again
        self.manifest = [
            dict(OTHER) if s == "search" else dict(SHADOW) if d > 0.97 else dict(V13) if d < r else dict(V12)
            for s, d, r in zip(self.surface, draw, ramp, strict=True)
        ]
        failed = rng.random(rows) < 0.02
        self.manifest = [{**m, "model_version": None} if f else m for m, f in zip(self.manifest, failed, strict=True)]
        self.manifests = [Manifest.of(m) for m in self.manifest]
        self.exposed = draw <= 0.97
        self.load = np.minimum((day * 1.4).astype(int) + rng.integers(0, 2, rows), 7)
        self.path = folder / "history.duckdb"
        with Store(self.path) as store:
            for k in range(8):
                self.add(store, k)

    def add(self, store: Store, load: int) -> None:
        mine = np.flatnonzero(self.load == load)
        columns = calls([self.manifest[k] for k in mine], self.ts[mine].tolist())
        add(store, {**columns, "surface": self.surface[mine].tolist(), "exposed": self.exposed[mine].tolist()})

    def truth(self, at: int, last: int) -> dict[tuple[str | None, str], tuple[int, int, float | None, int, int]]:
        """Return (surface, manifest id) -> calls, shadow, share, first ever, last ever, counted in plain Python."""
        within: dict[tuple[str | None, Manifest], list[int]] = defaultdict(list)
        ever: dict[tuple[str | None, Manifest], list[int]] = defaultdict(list)
        for k in np.flatnonzero(self.ts <= at).tolist():
            key = (self.surface[k], self.manifests[k])
            ever[key].append(int(self.ts[k]))
            if self.ts[k] > at - last:
                within[key].append(k)
        shown = {key: sum(bool(self.exposed[k]) for k in rows) for key, rows in within.items()}
        users = {s: sum(n for key, n in shown.items() if key[0] == s) for s in {key[0] for key in within}}
        return {
            (key[0], key[1].manifest_id): (
                len(rows), len(rows) - shown[key], shown[key] / users[key[0]] if users[key[0]] else None,
                min(ever[key]), max(ever[key]),
            )
            for key, rows in within.items()
        }  # fmt: skip


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> History:
    return History(tmp_path_factory.mktemp("small"), rows=3000)


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    return History(tmp_path_factory.mktemp("versions"))


def text(us: int) -> str:
    from abtest.analysis.times import to_text

    return str(to_text(us))


def answer(store: Store, at: int, last: str) -> dict[tuple[str | None, str], tuple[int, int, float | None, str, str]]:
    found = versions(store, at=at, last=last)
    return {
        (r.surface, r.manifest.manifest_id): (r.interactions, r.shadow, r.share, str(r.first_seen), str(r.last_seen))
        for r in found.surfaces
    }


def test_a_hundred_random_minutes_are_answered_exactly(history: History):
    rng = np.random.default_rng(3)
    with Store(history.path) as store:
        for k in range(100):
            last, length = [("15m", 15 * MINUTE), ("1h", HOUR), ("6h", 6 * HOUR)][k % 3]
            at = int(rng.integers(BEGIN + HOUR, BEGIN + 5 * DAY))
            want = {
                key: (calls_, shadow, share, text(first), text(last_us))
                for key, (calls_, shadow, share, first, last_us) in history.truth(at, length).items()
            }
            assert answer(store, at, last) == want, at


def test_the_kept_hours_were_used_and_say_what_the_calls_say(history: History):
    with Store(history.path) as store:
        asked = seen.Asked(BEGIN + 3 * DAY + 1234, store.last_file(), by=seen.PLACES)
        seen.refresh(store)
        kept = store.connection.execute("select sum(calls), count(*) from version_hour").fetchone()
        assert kept is not None
        assert kept[0] == 24_000
        assert kept[1] < 3_000
        key = lambda r: (str(r.surface), r.manifest.manifest_id, r.exposed)  # noqa: E731
        assert sorted(seen.history(store, asked), key=key) == sorted(seen.window(store, asked), key=key)
        earlier = seen.Asked(asked.as_of_us, 3, by=seen.PLACES)
        assert sum(r.calls for r in seen.history(store, earlier)) == int(
            ((history.load < 3) & (history.ts <= asked.as_of_us)).sum()
        )


@pytest.mark.parametrize("step", [1, 3, 8])
def test_loads_one_by_one_keep_the_same_hours(
    small: History, tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(seen, "WORTH_IT", 100)
    monkeypatch.setattr(seen, "_SLACK", 50)
    sums = "select * exclude (calls, first_us, last_us), sum(calls), min(first_us), max(last_us) from version_hour group by all order by all"
    with Store(small.path) as store:
        seen.refresh(store)
        want = store.connection.execute(sums).fetchall()
    with Store(tmp_path / "store.duckdb") as store:
        for load in range(8):
            small.add(store, load)
            if load % step == step - 1:
                seen.refresh(store)
        seen.refresh(store)
        assert store.connection.execute(sums).fetchall() == want
        (rows,) = store.connection.execute("select count(*) from version_hour").fetchall()[0]
        assert rows <= 2 * len(want) + 50


def test_a_refresh_that_dies_leaves_the_old_counts(small: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(seen, "WORTH_IT", 100)
    with Store(tmp_path / "store.duckdb") as store:
        small.add(store, 0)
        seen.refresh(store)
        small.add(store, 1)
        before = store.connection.execute("select sum(calls) from version_hour").fetchall()
        monkeypatch.setattr(seen, "_kept_rows", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            seen.refresh(store)
        monkeypatch.undo()
        monkeypatch.setattr(seen, "WORTH_IT", 100)
        assert store.connection.execute("select sum(calls) from version_hour").fetchall() == before
        assert sum(r.calls for r in seen.history(store, seen.Asked(2**61, store.last_file()))) == int(
            (small.load < 2).sum()
        )


def test_pruned_and_rebuilt_stores_count_anew(small: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from abtest.store.retention import prune

    monkeypatch.setattr(seen, "WORTH_IT", 100)
    with Store(tmp_path / "store.duckdb") as store:
        for load in range(8):
            small.add(store, load)
        everything = seen.Asked(2**61, store.last_file())
        assert sum(r.calls for r in seen.history(store, everything)) == 3_000
        prune(store.connection, BEGIN + 2 * DAY)
        left = int((small.ts >= BEGIN + 2 * DAY).sum())
        rows = seen.history(store, everything)
        assert sum(r.calls for r in rows) == left
        assert min(r.first_us for r in rows) >= BEGIN + 2 * DAY
        rebuild(store)
        assert store.connection.execute("select count(*) from version_state").fetchall() == [(0,)]
        assert sum(r.calls for r in seen.history(store, everything)) == left


def test_a_store_for_readers_is_counted_without_writing(history: History):
    with Store(history.path, read_only=True) as store:
        assert sum(r.interactions for r in versions(store, last="9d").surfaces) == 24_000


def test_a_rollback_and_a_takeover_are_told(history: History):
    with Store(history.path) as store:
        moment = BEGIN + int(2.3 * DAY)
        found = versions(store, at=moment + 2 * HOUR, last="3h", surface="support").changes
        major = [c for c in found if c.kind == "majority"]
        assert [c.fields["prompt_version"] for c in major] == [("v12", "v13")]
        assert (
            abs(np.datetime64(str(major[0].at).rstrip("Z")).astype("datetime64[us]").astype(int) - moment) < 20 * MINUTE
        )
        back = versions(store, at=BEGIN + int(2.7 * DAY) + 2 * HOUR, last="3h", surface="support").changes
        assert {c.kind for c in back} >= {"majority", "stopped"}
        gone = next(c for c in back if c.kind == "stopped")
        assert gone.manifest_id == Manifest.of(V13).manifest_id
        again = versions(store, at=BEGIN + 3 * DAY + HOUR, last="3h", surface="support").changes
        came = next(c for c in again if c.kind == "returned")
        assert came.manifest_id == Manifest.of(V13).manifest_id
        quiet = versions(store, at=BEGIN + 4 * DAY, last="3h", surface="support").changes
        assert quiet == ()


def test_first_calls_are_told_with_what_differs(tmp_path: Path):
    rng = np.random.default_rng(1)
    with Store(tmp_path / "s.duckdb") as store:
        add(store, steady(V12, BEGIN, BEGIN + 3 * HOUR, 300, rng, surface="a"))
        add(store, steady(V13, BEGIN + 3 * HOUR - 10 * MINUTE, BEGIN + 3 * HOUR, 30, rng, surface="a"))
        found = versions(store, last="30m")
        (came,) = [c for c in found.changes if c.kind == "appeared"]
        assert dict(came.fields) == {"prompt_version": ("v12", "v13"), "prompt_sha256": ("a" * 64, "b" * 64)}
        assert came.previous_id == Manifest.of(V12).manifest_id
        assert "prompt_version v12 to v13" in came.message
        assert "appeared" in repr(found)
        assert "v13" in found._repr_html_()
        assert found.to_polars()["prompt_version"].to_list() == ["v12", "v13"]


def test_failed_calls_lack_fields_and_are_no_version_of_their_own(tmp_path: Path):
    rng = np.random.default_rng(1)
    with Store(tmp_path / "s.duckdb") as store:
        add(store, steady(V12, BEGIN, BEGIN + 2 * HOUR, 200, rng, surface="a"))
        add(
            store,
            steady(
                {**V12, "model_version": None}, BEGIN + 2 * HOUR - 5 * MINUTE, BEGIN + 2 * HOUR, 3, rng, surface="a"
            ),
        )
        found = versions(store)
        part = next(r for r in found.surfaces if r.manifest.fields["model_version"] is None)
        assert part.part_of == Manifest.of(V12).manifest_id
        assert found.changes == ()
        assert "fields missing" in repr(found)


def test_shadow_traffic_is_shown_and_has_no_share(tmp_path: Path):
    rng = np.random.default_rng(1)
    with Store(tmp_path / "s.duckdb") as store:
        add(store, steady(V12, BEGIN, BEGIN + HOUR, 100, rng, surface="a"))
        add(store, steady(V13, BEGIN, BEGIN + HOUR, 100, rng, surface="a", exposed=False))
        by_version = {r.manifest.fields["prompt_version"]: r for r in versions(store, last="2h").surfaces}
        assert (by_version["v12"].share, by_version["v13"].share) == (1.0, 0.0)
        assert (by_version["v13"].shadow, by_version["v13"].interactions) == (100, 100)
        assert "shadow" in repr(versions(store))


def test_a_call_that_two_sources_logged_counts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Kept hours in which twins turn up later are counted anew."""
    monkeypatch.setattr(seen, "WORTH_IT", 10)
    rng = np.random.default_rng(1)
    with Store(tmp_path / "s.duckdb") as store:
        add(store, steady(V12, BEGIN, BEGIN + 3 * HOUR, 60, rng))
        seen.refresh(store)
        second = add(store, steady({**V12, "model_version": None}, BEGIN, BEGIN + 3 * HOUR, 5, rng))
        con = store.connection
        con.execute(f"insert into merged_interaction select *, {2**62} from interaction where file_id = 1 limit 5")
        con.execute(f"update merged_interaction set file_id = {second}")
        con.execute(
            "insert into twin (interaction_id, merged_id, file_id, until_file) select interaction_id, interaction_id, $f, $u"
            " from merged_interaction", {"f": second, "u": 2**62},
        )  # fmt: skip
        con.execute(
            "insert into twin (interaction_id, merged_id, file_id, until_file) select interaction_id, 'i1-0', $f, $u"
            " from interaction where file_id = $f", {"f": second, "u": 2**62},
        )  # fmt: skip
        now = seen.history(store, seen.Asked(2**61, second))
        assert [(r.manifest.fields["model_version"], r.calls) for r in now] == [("gpt-4o-2024-08-06", 60)]
        before = seen.history(store, seen.Asked(2**61, 1))
        assert sum(r.calls for r in before) == 60


def test_an_empty_store_a_silent_hour_and_bad_words(tmp_path: Path):
    with Store(tmp_path / "s.duckdb") as store:
        assert versions(store).to_dict()["surfaces"] == []
        assert "no calls" in repr(versions(store))
        add(store, calls([V12], [BEGIN]))
        assert versions(store, at="2026-12-24T00:00:00Z").surfaces == ()
        assert "no calls" in repr(versions(store, at="2026-12-24T00:00:00Z"))
        for words in ("soon", "", "-1h", "h"):
            with pytest.raises(UsageError, match="length"):
                versions(store, last=words)
        with pytest.raises(UsageError):
            versions(store, at="then")


def test_a_field_that_changes_with_every_call_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(seen, "MOST", 50)
    with Store(tmp_path / "s.duckdb") as store:
        rows = [{**V12, "prompt_sha256": f"{k:064x}"} for k in range(120)]
        add(store, calls(rows, [BEGIN + k * 10 * MINUTE for k in range(120)]))
        found = versions(store)
        assert len(found.surfaces) == 6
        assert "changes from call to call" in found.notes[0]


def test_the_id_is_the_hash_of_all_fields():
    first = Manifest.of({"model": "m"})
    assert Manifest.of({"model": "m", "latency_ms": 3}) == first
    for name in FIELDS:
        assert Manifest.of({"model": "m", name: "x"}).manifest_id != first.manifest_id
    assert '"index_id":null' in first.canonical
    assert (
        whole_of(first, {Manifest.of({"model": "m", "index_id": "1"}), Manifest.of({"model": "m", "index_id": "2"})})
        is None
    )


def test_text_of_logs_is_made_harmless(tmp_path: Path):
    with Store(tmp_path / "s.duckdb") as store:
        add(store, calls([{**V12, "prompt_version": "<b>\x1b[31m\u202ev1"}], [BEGIN], surface=["<script>"]))
        found = versions(store)
        assert "\x1b" not in repr(found)
        assert "<script>" not in found._repr_html_()
        assert "\u202e" not in found._repr_html_()


def test_a_look_that_is_killed_at_any_moment_leaves_a_store_that_counts_right(small: History, tmp_path: Path):
    """kill -9 while the kept hours are being made, at different moments; the next look is exact."""
    import os
    import shutil
    import signal
    import subprocess
    import sys
    import time

    code = (
        "import sys\nfrom abtest.lineage import seen\nfrom abtest.store.store import Store\nseen.WORTH_IT = 100\n"
        "store = Store(sys.argv[1])\nprint('open', flush=True)\nwhile True:\n    seen.refresh(store)\n    seen.forget(store.connection)\n"
    )
    for pause in (0.0, 0.003, 0.02):
        path = tmp_path / f"killed-{pause}.duckdb"
        shutil.copy(small.path, path)
        process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        time.sleep(pause)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        with Store(path) as store:
            everything = seen.Asked(2**61, store.last_file())
            assert sum(r.calls for r in seen.history(store, everything)) == 3_000
            kept = store.connection.execute("select coalesce(sum(calls), 0) from version_hour").fetchall()
            assert kept in ([(0,)], [(3_000,)])
