"""The committed pictures are small, say in words what they show, and show what the code computes today."""

import re
from pathlib import Path

import calibration_pictures as pictures
import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "calibration"


@pytest.mark.parametrize("name", pictures.PICTURES)
def test_pictures_are_small_and_have_words(name):
    if not FOLDER.exists():
        pytest.skip("docs are not beside the tests")
    text = (FOLDER / f"{name}.svg").read_text(encoding="utf-8")
    assert len(text.encode()) <= 20_000
    assert re.search(r"<title>.+</title><desc>.+</desc>", text)
    assert "<script" not in text


@pytest.mark.parametrize("name", ["false_alarms", "bounds"])
def test_words_of_the_pictures_are_true(name):
    if not FOLDER.exists():
        pytest.skip("docs are not beside the tests")
    words = pictures.PICTURES[name]().to_dict()["usermeta"]["abtest"]["description"]
    assert words in (FOLDER / f"{name}.svg").read_text(encoding="utf-8")


def test_stops_agree_with_the_simulations():
    # docs/calibration.md, Brownian rows: anytime 1.155, informed 1.043, harm 0.864, horizon 0.748.
    assert pictures.mean_stop(pictures.LOOKS, pictures.plain(), 1.0) == pytest.approx(1.155, abs=0.01)
    assert pictures.mean_stop(pictures.LOOKS, pictures.informed(), 1.0) == pytest.approx(1.043, abs=0.01)
    harm = pictures.mean_stop(pictures.LOOKS, pictures.informed("larger"), 1.0, one_sided=True)
    assert harm == pytest.approx(0.864, abs=0.01)
    assert pictures.mean_stop(pictures.WITHIN, pictures.within(), 1.0) == pytest.approx(0.748, abs=0.01)
