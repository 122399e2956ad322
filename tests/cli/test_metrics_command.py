"""`abtest metrics`: the catalogue, what a spec made of it, the example of a price book."""

from __future__ import annotations

import tomllib

from abtest.metrics.catalog import entries
from tests.cli.runner import call

SPEC = """
id = "swap"
control = "a"
treatments = ["b"]
[[metrics]]
use = "refusal_rate"
guardrail = true
[[metrics]]
use = "cost_per_request"
guardrail = { margin = { relative = 0.05 } }
[[metrics]]
name = "own"
kind = "count"
better = "lower"
"""


def test_the_catalogue_for_people(capsys):
    result = call(capsys, "metrics")
    assert result.code == 0
    for name, entry in entries().items():
        assert name in result.out
        assert entry.definition in result.out
        assert entry.logged in result.out
    assert "proportion, lower is better, guardrail +1 pp, halt" in result.out


def test_the_catalogue_as_json(capsys):
    data = call(capsys, "metrics", "--json").json
    assert data["schema"] == "abtest.metrics/1"
    assert [m["name"] for m in data["metrics"]] == list(entries())
    assert (data["experiment"], data["resolved"], data["notes"]) == (None, None, [])
    first = data["metrics"][0]
    assert set(first) >= {
        "name",
        "kind",
        "better",
        "per",
        "unit",
        "definition",
        "logged",
        "guardrail",
        "success",
        "needs",
        "keys",
    }
    assert first["guardrail"] == {"margin": {"points": 0.01}, "action": "halt"}


def test_a_spec_shows_which_of_its_keys_are_defaults(capsys, tmp_path):
    spec = tmp_path / "experiment.toml"
    spec.write_text(SPEC)
    result = call(capsys, "metrics", "--spec", spec)
    assert result.code == 0
    assert (
        "refusal_rate: catalogue metric refusal_rate; its defaults: better lower, event refused, margin +1 pp, action halt"
        in result.out
    )
    assert "+5 % of control, hold" in result.out
    assert "there is no price book" in result.out
    data = call(capsys, "metrics", "--spec", spec, "--json").json
    assert data["experiment"] == "swap"
    defaults = [m.get("catalogue", {}).get("defaults") for m in data["resolved"]]
    assert defaults == [
        ["better", "event", "guardrail.margin", "guardrail.action"],
        ["value", "better", "guardrail.action"],
        None,
    ]
    assert len(data["notes"]) == 3


def test_the_example_price_book_can_be_copied(capsys, tmp_path):
    text = call(capsys, "metrics", "--price-book").out
    (tmp_path / "prices.toml").write_text(text)
    spec = tmp_path / "experiment.toml"
    spec.write_text(f'{SPEC}\n[prices]\nfile = "prices.toml"\n')
    result = call(capsys, "metrics", "--spec", spec, "--json")
    assert result.code == 0
    assert "prices.toml" in result.json["notes"][-1]
    rows = call(capsys, "metrics", "--price-book", "--json").json
    assert rows["schema"] == "abtest.price_book/1"
    assert len(rows["model"]) == len(tomllib.loads(text)["model"])


def test_a_misspelt_name_is_one_line_with_the_right_one(capsys, tmp_path):
    spec = tmp_path / "experiment.toml"
    spec.write_text(SPEC.replace("refusal_rate", "refusl_rate"))
    result = call(capsys, "metrics", "--spec", spec)
    assert (result.code, result.out) == (2, "")
    assert len(result.err.strip().splitlines()) == 1
    assert "did you mean 'refusal_rate'" in result.err
    assert call(capsys, "metrics", "--spec", tmp_path / "no.toml", "--json").json["code"] == "spec"
