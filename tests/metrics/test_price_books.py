"""Price books as files: what is read, what is refused, what is kept of them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from abtest.errors import SpecError
from abtest.metrics.base import MONEY_SCALE
from abtest.metrics.prices import example_book, parse_book
from abtest.spec import Experiment
from tests.metrics.price_samples import BOOK


def test_the_example_is_a_book_whose_prices_end() -> None:
    rows = parse_book(example_book(), "prices.example.toml")
    assert rows
    assert all({"since", "until", "source"} <= set(row) for row in rows)


SPEC = """
id = "x"
control = "a"
treatments = ["b"]
[prices]
file = "prices.toml"
[[prices.model]]
name = "ours"
since = 2026-01-01
input = 1
output = 1
[[metrics]]
use = "cost_per_request"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "prices.toml").write_text(BOOK)
    (tmp_path / "experiment.toml").write_text(SPEC)
    return tmp_path


def test_a_book_beside_the_spec_is_put_in(folder: Path) -> None:
    experiment = Experiment.from_toml(folder / "experiment.toml")
    assert [p.name for p in experiment.prices.model] == ["big", "big", "big", "ours", "plain", "thinker"]
    assert experiment.prices.sha256 == hashlib.sha256(BOOK.encode()).hexdigest()
    measure = experiment.metrics[0].measure()
    assert "ts_us" in measure.columns
    assert measure.scale == MONEY_SCALE
    assert "prices.toml (6 prices, the newest since 2026-06-01)" in experiment.default_notes[-1]


def test_the_ledger_needs_no_file(folder: Path) -> None:
    """A decision is replayed from its spec in the ledger: the prices of then, wherever the file went."""
    experiment = Experiment.from_toml(folder / "experiment.toml")
    body = json.loads(json.dumps(experiment.model_dump(mode="json", exclude_none=True, exclude_defaults=True)))
    (folder / "prices.toml").unlink()
    again = Experiment.from_dict(body)
    assert again.policy_sha256() == experiment.policy_sha256()
    assert again.metrics[0].measure() == experiment.metrics[0].measure()


def test_a_price_is_policy_and_its_source_is_not(folder: Path) -> None:
    def policy(text: str) -> str:
        (folder / "prices.toml").write_text(text)
        return Experiment.from_toml(folder / "experiment.toml").policy_sha256()

    blocks = BOOK.strip().split("\n\n")
    assert policy(BOOK) == policy("\n\n".join(reversed(blocks))) == policy(BOOK + 'source = "the web"\n')
    assert policy(BOOK) != policy(BOOK.replace("0.4", "0.5"))


def test_cost_in_a_filter_and_in_any_expression(folder: Path) -> None:
    data = {
        "id": "x", "control": "a", "treatments": ["b"], "prices": {"model": parse_book(BOOK, "p")},
        "population": {"where": "cost < 1"},
        "metrics": [{"name": "dear", "kind": "proportion", "event": "cost > 0.1", "better": "lower"}],
    }  # fmt: skip
    experiment = Experiment.from_dict(data)
    where = experiment.where_expression()
    assert where is not None
    assert "ts_us" in where.columns & experiment.metrics[0].measure().columns
    with pytest.raises(SpecError, match="boolean is needed"):
        Experiment.from_dict({**data, "population": {"where": "cost"}})


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        ("[[model]]\nname = 'm'", "model[0].since", "missing"),
        ("[[model]]\nname = 'm'\nsince = 2026-01-01\ninput = 1", "model[0].output", "missing"),
        ("[[model]]\nname = 'm'\nsince = 2026-01-01\ninput = -1\noutput = 1", "model[0].input", "greater than or equal to 0"),
        ("[[model]]\nname = 'm'\nsince = 2026-01-01\ninput = nan\noutput = 1", "model[0].input", "finite"),
        ("[[model]]\nname = 'm'\nsince = 20260101\ninput = 1\noutput = 1", "model[0].since", "write a day"),
        ("[[model]]\nname = 'm'\nsince = 2026-01-01\nuntil = 2026-01-01\ninput = 1\noutput = 1", "model[0]", "after since"),
        ("[[model]]\nname = 'm'\nsince = 2026-01-01\ninput = 1\noutput = 1\ncached = 1", "model[0].cached", "did you mean 'cached_input'"),
        ("[[models]]\nname = 'm'", "models", "[[model]] tables only"),
        ("model = 3", "model", "list"),
        ("model = {", None, "not TOML"),
        ("\xff", None, "not a text file"),
        (("[[model]]\nname = 'm'\nsince = 2026-01-01\ninput = 1\noutput = 1\n") * 2, "prices.model", "two prices since 2026-01-01"),
        ("# " + "x" * 1_000_001, "prices.file", "no price book"),
    ],
)  # fmt: skip
def test_a_bad_book_is_an_error_that_names_the_place(folder: Path, text: str, key: str | None, words: str) -> None:
    (folder / "prices.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(SpecError) as caught:
        Experiment.from_toml(folder / "experiment.toml")
    assert caught.value.key == key
    assert words in str(caught.value)
    assert ("experiment.toml" if key == "prices.model" else "prices.toml") in (caught.value.file or "")


@pytest.mark.parametrize("name", ["nowhere.toml", ".", "a\x00b", "x" * 5000, "/dev/zero"])
def test_what_is_no_file_is_not_read(folder: Path, name: str) -> None:
    spec = {
        "id": "x",
        "control": "a",
        "treatments": ["b"],
        "metrics": [{"use": "error_rate"}],
        "prices": {"file": name},
    }
    with pytest.raises(SpecError) as caught:
        Experiment.from_dict(spec)
    assert caught.value.key == "prices.file"


def test_a_hash_pins_the_book(folder: Path) -> None:
    spec, sha256 = folder / "experiment.toml", hashlib.sha256(BOOK.encode()).hexdigest()
    spec.write_text(SPEC.replace('file = "prices.toml"', f'file = "prices.toml"\nsha256 = "{sha256}"'))
    assert len(Experiment.from_toml(spec).prices.model) == 6
    (folder / "prices.toml").write_text(BOOK.replace("10.00", "1.00"))
    with pytest.raises(SpecError, match="another one than this hash says"):
        Experiment.from_toml(spec)
