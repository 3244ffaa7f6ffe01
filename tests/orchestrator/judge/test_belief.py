"""What several sources say together, on the scale of errors in percent."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import kendalltau

from orchestrator.judge.belief import FEWEST, Belief, Observation, believe, normal_scores
from searchers.parts.gaussian_process import Encoding
from tests.fakes import true_accuracy

SIZES = (4, 4, 4, 4)
ALL = list(itertools.product(*map(range, SIZES)))
ENCODING = Encoding(SIZES)
ERROR = np.array([100 - true_accuracy(a) for a in ALL])


def observed(count: int, off: float, seed: int = 0, bias: np.ndarray | None = None) -> list[Observation]:
    """Measure random networks, each `off` percent off in the mean."""
    rng = np.random.default_rng(seed)
    places = rng.choice(len(ALL), count, replace=count > len(ALL))
    errors = np.clip((ERROR if bias is None else bias)[places] + off * rng.standard_normal(count), 1, 99)
    return [Observation(ALL[i], float(e), 256) for i, e in zip(places, errors, strict=True)]


def test_variance_is_that_of_a_binomial_share() -> None:
    assert math.sqrt(Observation((0,), 50.0, 2500).variance) == pytest.approx(1.0, rel=0.01)
    assert Observation((0,), 0.0, 100).variance > 0  # no error in a hundred images is no certainty


def test_expected_errors_are_in_percent_and_closer_than_single_measurements() -> None:
    observations = observed(120, 4.0)
    mean, deviation = Belief(ENCODING, observations)(ALL)
    raw = np.mean([abs(o.error - ERROR[ALL.index(o.architecture)]) for o in observations])
    assert np.abs(mean - ERROR).mean() < 0.7 * raw
    assert ((deviation > 0) & (deviation < 10)).all()


def test_draws_have_the_mean_and_go_up_and_down_together() -> None:
    belief = Belief(ENCODING, observed(60, 3.0))
    some = ALL[:30]
    mean, deviation = belief(some)
    draws = belief.draws(some, 400, np.random.default_rng(0))
    assert np.abs(draws.mean(axis=0) - mean).max() < 4 * deviation.max() / math.sqrt(400) + 0.3
    alike, unlike = np.corrcoef(draws.T)[0, 1], np.corrcoef(draws.T)[0, -1]
    assert alike > unlike


def test_a_lucky_measurement_is_drawn_back() -> None:
    belief = Belief(ENCODING, observed(120, 4.0))
    at = 100
    lucky, plain = (Observation(ALL[at], ERROR[at] - luck, 256) for luck in (12.0, 0.0))
    pulled = belief.shrink([lucky])[0]
    assert ERROR[at] - 8 < pulled < ERROR[at] + 3
    assert pulled < belief.shrink([plain])[0]  # but not all of it is taken for luck


def test_a_few_faithful_measurements_correct_a_biased_source() -> None:
    rng = np.random.default_rng(5)
    wrong = np.array([10.0 * (a[1] == 2) - 10.0 * (a[3] == 1) for a in ALL]) + ERROR  # what shared weights get wrong
    biased, faithful = observed(300, 3.0, bias=wrong), observed(15, 3.0, seed=6)
    alone = kendalltau(Belief(ENCODING, faithful)(ALL)[0], ERROR).statistic
    first = kendalltau(Belief(ENCODING, biased)(ALL)[0], ERROR).statistic
    *_, both = believe(ENCODING, [biased, faithful])
    assert kendalltau(both(ALL)[0], ERROR).statistic > max(alone, first)
    useless = observed(300, 3.0, bias=rng.permutation(ERROR))
    *_, misled = believe(ENCODING, [useless, faithful])
    assert kendalltau(misled(ALL)[0], ERROR).statistic > alone - 0.1


def test_scores_help_where_they_are_right_and_do_no_harm_where_not() -> None:
    faithful = observed(15, 1.0, seed=7)
    place = {a: i for i, a in enumerate(ALL)}
    rng = np.random.default_rng(8)
    right, useless = -ERROR[:, None], rng.standard_normal((len(ALL), 1))

    def tau(values: np.ndarray | None) -> float:
        scores = None if values is None else (lambda some: normal_scores(values)[[place[tuple(a)] for a in some]])
        (belief,) = believe(ENCODING, [faithful], scores)
        return float(kendalltau(belief(ALL)[0], ERROR).statistic)

    assert tau(right) > tau(None) + 0.05
    assert tau(useless) > tau(None) - 0.1


def test_too_few_measurements_are_no_belief() -> None:
    assert believe(ENCODING, [observed(FEWEST - 1, 1.0)]) == []
    assert believe(ENCODING, []) == []


def test_scores_without_a_value_say_nothing() -> None:
    found = normal_scores(np.array([[1.0, 5.0], [3.0, 5.0], [np.nan, 5.0], [2.0, 5.0]]))
    assert found[2, 0] == 0 and (found[:, 1] == 0).all()
    assert found[0, 0] < found[3, 0] < found[1, 0]
