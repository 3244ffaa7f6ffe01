import itertools

import numpy as np
import pytest
import torch

from searchers.parts.categorical import Categorical

pytestmark = pytest.mark.numeric


def made(*rows: list[float]) -> Categorical:
    policy = Categorical([len(row) for row in rows])
    with torch.no_grad():
        for i, row in enumerate(rows):
            policy.logits[i, : len(row)] = torch.tensor(row, dtype=torch.float64)
    return policy


def test_ragged_rows_sum_to_one_and_padding_has_nothing() -> None:
    policy = made([0.0, 1.0, 2.0], [0.5, -0.5])
    assert policy.rows()[0] == pytest.approx(np.exp([0, 1, 2]) / np.exp([0, 1, 2]).sum())
    assert len(policy.rows()[1]) == 2 and sum(policy.rows()[1]) == pytest.approx(1)
    assert policy.probabilities()[1, 2] == 0


def test_log_prob_and_entropy_by_enumeration() -> None:
    policy = made([0.3, -1.0, 0.2], [1.0, 0.0])
    everything = list(itertools.product(range(3), range(2)))
    log_p = policy.log_prob(everything).detach()
    assert float(log_p.exp().sum()) == pytest.approx(1)
    assert float(policy.entropy().detach()) == pytest.approx(float(-(log_p.exp() * log_p).sum()))


def test_score_function_is_one_hot_minus_probability() -> None:
    policy = made([0.3, -1.0, 0.2], [1.0, 0.0])
    policy.log_prob([(2, 0)]).sum().backward()
    expected = torch.tensor([[0.0, 0, 1], [1, 0, 0]]) - policy.probabilities()
    assert torch.allclose(policy.logits.grad, expected)


def test_samples_follow_the_probabilities() -> None:
    policy = made([0.0, 1.0, 2.0], [0.0, 0.0])
    drawn = np.array(policy.sample(20000, torch.Generator().manual_seed(0)))
    for choice, row in enumerate(policy.rows()):
        counts = np.bincount(drawn[:, choice], minlength=len(row)) / len(drawn)
        assert counts == pytest.approx(row, abs=4 * np.sqrt(0.25 / len(drawn)))


def test_dropped_options_are_never_sampled_and_the_best_survive() -> None:
    policy = made([0.0, 3.0, 2.0, 1.0], [0.0, 1.0])
    policy.keep([2, 1])
    assert policy.options() == ((1, 2), (1,))
    drawn = np.array(policy.sample(500, torch.Generator().manual_seed(0)))
    assert set(drawn[:, 0]) == {1, 2} and set(drawn[:, 1]) == {1}
    assert policy.mode() == (1, 1)
    with pytest.raises(ValueError, match="cannot keep 3"):
        policy.keep([3, 1])
