import math

import pytest

from searchers import Evaluation, Mixture


def test_one_hot_is_active_where_the_architecture_says() -> None:
    mixture = Mixture.one_hot((2, 0), (3, 2))
    assert mixture.weights == ((0.0, 0.0, 1.0), (1.0, 0.0))
    assert mixture.active() == ((2,), (0,))


@pytest.mark.parametrize("architecture", [(3, 0), (-1, 0), (0,), (0, 0, 0)])
def test_architectures_outside_the_space_are_refused(architecture: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="architecture"):
        Mixture.one_hot(architecture, (3, 2))


def test_mixtures_must_be_finite_and_of_one_shape() -> None:
    with pytest.raises(ValueError, match="choice 1"):
        Mixture(((1.0,), (math.nan,)))
    with pytest.raises(ValueError, match="shape"):
        Mixture(((1.0, 0.0),), ((True,),))


@pytest.mark.parametrize("costs", [(), (math.nan,), (1.0, math.inf)])
def test_costs_must_be_finite(costs: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="finite"):
        Evaluation((0,), costs)
