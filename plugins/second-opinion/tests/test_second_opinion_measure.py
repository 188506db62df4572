"""The figures are what they say, and the measurement reads twins as the file has them."""

import json

import numpy as np
import pytest

from gateway_second_opinion import measure
from gateway_second_opinion.figures import applied, auc, calibration, fit, rates
from gateway_second_opinion.shown import twins

HARM = np.array([1, 1, 0, 0])


def test_figures():
    assert auc(np.array([0.9, 0.5, 0.5, 0.1]), HARM) == 0.875
    assert auc(np.array([0.9]), np.array([1])) is None
    assert rates(np.array([0.9, 0.5, 0.95, 0.1]), HARM, 0.9) == {"harmful_refused": 0.5, "benign_refused": 0.5}
    assert calibration(np.array([1.0, 1.0, 0.0, 0.0]), HARM) == {"brier": 0.0, "ece": 0.0}
    assert calibration(np.array([0.0, 0.0, 1.0, 1.0]), HARM) == {"brier": 1.0, "ece": 1.0}


def test_a_fit_finds_the_slope_and_offset_that_were_there():
    rng = np.random.default_rng(0)
    odds = rng.normal(size=4000)
    harm = (rng.random(4000) < 1 / (1 + np.exp(-(2 * odds - 1)))).astype(int)
    risk = 1 / (1 + np.exp(-odds))
    slope, offset = fit(risk, harm)
    assert (slope, offset) == (pytest.approx(2, abs=0.2), pytest.approx(-1, abs=0.2))
    assert calibration(applied(risk, slope, offset), harm)["ece"] < 0.03 < calibration(risk, harm)["ece"]


def test_twins_are_read_and_spread_over_the_categories(tmp_path):
    path = tmp_path / "twins.txt"
    path.write_text("# a comment => no\nH01 bad one => B14 good one\nH01 bad two => good two\nH02 bad => B02 good\n")
    found = measure.pairs(path)
    assert found[:2] == [("H01", "bad one", "good one"), ("H01", "bad two", "good two")]
    assert sorted(code for code, *_ in measure.chosen(list(found), 2)) == ["H01", "H02"]
    assert measure.chosen(list(found), 0) != []


def test_no_demonstration_is_among_what_is_measured():
    held = measure.weights() / "training" / "heldout" / "twins.txt"
    measured = {text for _, *both in measure.pairs(held) for text in both}
    assert measured.isdisjoint({text for _, *both in twins() for text in both})


def test_a_measurement_of_an_unknown_model_says_so(capsys):
    assert measure.main(["--config", json.dumps({"model": {"stage": "nowhere"}})]) == 1
    assert "`nowhere`" in capsys.readouterr().err


def test_rows_are_told_alone_and_together():
    rows = [
        {"pair": n // 2, "code": "H01", "harm": 1 - n % 2, "opinion": 0.95 - 0.9 * (n % 2), "intent": 0.5,
         "seconds": 0.01, "busy": 0.01}
        for n in range(8)
    ]  # fmt: skip
    told = measure.told(rows)
    assert (told["opinion"]["auc"], told["intent"]["auc"], told["together"]["auc"]) == (1.0, 0.5, 1.0)
    assert told["together"]["harmful_refused"] == 1.0
    assert told["in_band"] == {"texts": 8, "harmful": 4, "auc_intent": 0.5, "auc_opinion": 1.0}
    assert told["milliseconds"]["median"] == pytest.approx(10)
