"""Effects and standard errors of a one-stage analysis against tea-tasting and gbstats on the same 2,000 calls, to 1e-9.

cases/nightly.parquet has the rows, cases/nightly_peers.json what the peers said, with the call that made it. Compared are plain
means and per-user ratios, where the definitions are the same: the effect, and the error of a fixed test, sqrt(V_C + V_T). Peers
divide squares by n - 1, we by n: n/(n-1) is put in here. Not compared: CUPED (gbstats adjusts sums a user, tea-tasting with one
theta for both arms), quantiles (tea-tasting has none without a bootstrap), and what a result reports as `std_error`, which is the
largest of the plain error, the design error under the null, and a floor.
"""

import json
from pathlib import Path

import pytest

from abtest.analysis.analyze import analyze_evidence
from abtest.analysis.read import read
from abtest.spec import Experiment
from abtest.store.store import Store
from benchmarks.nightly.logs import SCANNED, Logs, spec_of
from benchmarks.nightly.ours import errors_of

CASES = Path(__file__).parent / "cases"
PEERS = json.loads((CASES / "nightly_peers.json").read_text(encoding="utf-8"))
RATES = (
    "refusal_rate",
    "error_rate",
    "format_ok",
    "ttft",
    "cost",
    "tokens_in_a_user",
    "tokens_out",
    "cost_per_success",
)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Our effects and fixed errors on the same rows."""
    with Store(tmp_path_factory.mktemp("peers") / "abtest.duckdb") as store:
        con = store.connection
        types = {"exposed": "true", "turn": "1", "model": "'m'", "source": "'native'", "file_id": "0",
                 "interaction_id": "cast(row_number() over () as varchar)", **{c: c for c in SCANNED}}  # fmt: skip
        rows = f"read_parquet('{CASES / 'nightly.parquet'}')"
        con.execute(f"insert into interaction ({', '.join(types)}) select {', '.join(types.values())} from {rows}")
        spec = Experiment.from_dict(spec_of(Logs(2_000)))
        evidence = read(store, spec)
        effects = {f"{m.metric} {m.treatment}": m.estimate for m in analyze_evidence(evidence).metrics}
        return effects, errors_of(evidence, spec)


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("metric", RATES)
def test_plain_means_and_ratios_are_the_peers(found, peer, metric):
    effects, errors = found
    for treatment in ("candidate", "candidate-2"):
        name = f"{metric} {treatment}"
        assert effects[name] == pytest.approx(PEERS[peer]["estimates"][name], rel=1e-9)
        assert errors[name] == pytest.approx(PEERS[peer]["errors"][name], rel=1e-9)
