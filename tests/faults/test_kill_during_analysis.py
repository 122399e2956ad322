"""kill -9 while an analysis keeps its state: the store opens, and the next analysis equals one that reads everything."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from abtest.analysis.read import layout_of, read
from abtest.spec import Experiment
from abtest.store import state
from abtest.store.store import Store

KILLS = 60 if os.environ.get("ABTEST_CALIBRATE") == "full" else 8
SPEC = {
    "id": "e", "control": "A", "treatments": ["B"], "allocation": [{"at": "2026-11-01T00:00:00Z", "share": 0.5}],
    "metrics": [
        {"name": "cost", "kind": "mean", "value": "cost_usd", "better": "lower"},
        {"name": "refused", "kind": "proportion", "event": "refused", "better": "lower", "guardrail": {"margin": {"points": 0.05}}},
    ],
}  # fmt: skip
WORKER = """
import json, sys
from abtest.analysis.read import layout_of, read
from abtest.spec import Experiment
from abtest.store import state
from abtest.store.store import Store
state.WORTH_IT = 0
print("ready", flush=True)
with Store(sys.argv[1]) as store:
    experiment = Experiment.from_dict(json.loads(sys.argv[2]))
    for path in sys.argv[3:]:
        store.ingest(path)
        read(store, experiment)
"""


def write(folder: Path, number: int, rng: random.Random) -> Path:
    """Write a log of 400 calls, some of them earlier than those of the files before."""
    path = folder / f"{number:03}.jsonl"
    lines = []
    for i in range(400):
        minute = max(0, number * 60 + rng.randrange(-90, 60))
        user = rng.randrange(300)
        lines.append({
            "interaction_id": f"{number}-{i}", "ts": f"2026-11-{1 + minute // 1440:02}T{minute // 60 % 24:02}:{minute % 60:02}:00Z",
            "model": "m", "unit_id": f"u{user}", "experiment_id": "e", "variant": "AB"[user % 2], "cost_usd": rng.random(),
            "refused": rng.random() < 0.1,
        })  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def test_kill_9(tmp_path: Path) -> None:
    rng = random.Random(3)
    database, experiment = tmp_path / "store.duckdb", Experiment.from_dict(SPEC)
    advanced = 0
    for kill in range(KILLS):
        paths = [str(write(tmp_path, 6 * kill + k, rng)) for k in range(6)]
        command = [sys.executable, "-c", WORKER, str(database), json.dumps(SPEC), *paths]
        worker = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
        time.sleep(rng.random() * 1.5)
        worker.send_signal(signal.SIGKILL)
        worker.communicate()
        with Store(database) as store:
            store.ingest(*paths)
            found = read(store, experiment)
            advanced += state.load(store, "e", 1, layout_of(experiment, found.strata, found.scan)) is not None
            state.drop(store)
            whole = read(store, experiment)
            assert found.sha256() == whole.sha256()
            assert found.population["calls"] == 400 * 6 * (kill + 1)
    assert advanced
