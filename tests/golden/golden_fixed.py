"""Loads the golden cases of the fixed-horizon, group-sequential and planning methods."""

import json
import math
from pathlib import Path

import pytest

CASES = Path(__file__).parent / "cases"


def load(peer, topic=""):
    """Return pytest parameters, one a case of the peer whose topic contains `topic`."""
    cases = json.loads((CASES / f"fixed_{peer}.json").read_text(encoding="utf-8"))
    found = [pytest.param(case, id=case["id"]) for case in cases if topic in case["topic"]]
    assert found, f"no case of {peer} about {topic}"
    return found


def close(ours, theirs, rtol):
    """Assert that a number (or a list of them) agrees; "nan" and "inf" are answered by None here."""
    if isinstance(theirs, list):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            close(a, b, rtol)
        return
    theirs = float(theirs)
    if math.isfinite(theirs):
        assert ours is not None
        assert ours == pytest.approx(theirs, rel=rtol, abs=0.0)
    else:
        assert ours is None
