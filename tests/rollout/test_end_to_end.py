"""Logs in, decision out, flag flipped, traffic gone: `abtest decide` in one process, the real OpenFeature client in another."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from pathlib import Path

import pytest

from tests.cli.runner import spawn

pytest.importorskip("openfeature.contrib.provider.flagd", reason="openfeature-provider-flagd is not installed")


def _real_client():
    """Load the neighbour's client tools (test files are no package)."""
    path = Path(__file__).with_name("test_flagd_real_client.py")
    spec = importlib.util.spec_from_file_location("real_client_tools", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_after_a_halt_the_client_sees_only_the_baseline(simulated):
    tools = _real_client()
    logs = simulated("refusal-regression")
    with tools.running_client(logs.flags, poll_ms=500) as client:
        before = client.wait(lambda line: line["variants"].get("candidate", 0) > 0)
        assert before is not None, "the canary was not running"
        assert before["errors"] == []
        started = time.time()
        result = spawn("decide", logs.spec, "--db", logs.db, "--json")
        decided = time.time()
        assert result.code == 20, result.err
        decision = json.loads(result.out)
        after = client.wait(tools.decided_by(decision["decision_id"]))
        assert after is not None, "the client never saw the halt"
        assert tools.is_all_baseline(after)
        print(
            f"decide took {decided - started:.2f} s, the client saw it {max(after['started'] - decided, 0):.2f} s later"
        )
        # It stays so, without an error and without the caller's code default.
        for _ in range(20):
            line = client.wait(lambda _: True)
            assert line is not None
            assert tools.is_all_baseline(line)
            assert line["errors"] == []


def test_a_healthy_release_leaves_the_flag_alone(simulated):
    logs = simulated("healthy")
    before = (logs.flags.read_bytes(), logs.flags.stat().st_mtime_ns)
    result = spawn("decide", logs.spec, "--db", logs.db, "--json")
    assert result.code in (0, 10), result.out
    assert (logs.flags.read_bytes(), logs.flags.stat().st_mtime_ns) == before
