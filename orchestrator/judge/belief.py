"""From all measurements of a search, of every source, to one mean and deviation for each network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata

from orchestrator.judge.process import Floats, Process, Rows
from orchestrator.tasks.classification import binomial
from searchers.base import Architecture
from searchers.parts.gaussian_process import Encoding, Scale

Scores = Callable[[Sequence[Architecture]], Floats]
"""Training-free scores of networks, (networks, scores), of deviation about 1; 0 where a score has no value."""

Chance = Callable[[float, int], float]
"""Variance of an error that was measured on so many images, by the choice of these, in percent squared."""

FEWEST = 8
"""Measurements of a source below which it is not learned from; a process of fewer says little more than its prior."""
MOST = 800
"""Measurements of a source that its process is conditioned on; the time grows with their cube."""
BIAS = 0.3
"""Prior of the variance that networks have for a further source beside what the sources before it say, of all its variance."""


@dataclass(frozen=True)
class Observation:
    """A measurement of a network's error.

    Args:
        architecture: The network.
        error: In percent, or on the scale of 0 to 100 that the task brings its cost to.
        images: Number of images that it was measured on.
        batch: Number of the batch of images; negative for images that all measurements of the source share.
        when: Share of the training of shared weights that was over, in 0..1; 1 for weights of its own.
        chance: Variance of an error by the choice of images, in percent squared; 0 for what is not known of it.
    """

    architecture: Architecture
    error: float
    images: int
    batch: int = -1
    when: float = 1.0
    chance: Chance = binomial

    @property
    def variance(self) -> float:
        """Variance of the error by the choice of images, in percent squared."""
        return self.chance(self.error, self.images)


class Belief:
    """What a source and those before it say of the error of any network.

    Args:
        encoding: Features of architectures.
        observations: Measurements of this source, at least one.
        before: Beliefs from sources before, whose means are slopes.
        scores: Training-free scores, further slopes; None for none.
    """

    def __init__(
        self,
        encoding: Encoding,
        observations: Sequence[Observation],
        before: Sequence[Belief] = (),
        scores: Scores | None = None,
    ) -> None:
        self._encoding, self._before, self._scores = encoding, list(before), scores
        if len(observations) > MOST:
            observations = [observations[i] for i in np.linspace(0, len(observations) - 1, MOST).astype(int)]
        errors = np.array([o.error for o in observations])
        self._scale = Scale(errors, True)
        step = 0.05  # percent, to differentiate the transform by
        slope = (self._scale.to(errors + step) - self._scale.to(errors - step)) / (2 * step)
        architectures = [o.architecture for o in observations]
        features = encoding(architectures)
        rows = Rows(
            features,
            self._slopes(architectures, features)[0],
            np.array([o.when for o in observations]),
            np.array([o.batch for o in observations]),
            np.array([o.variance for o in observations]) * slope**2,
        )
        self._known = float(rows.variance.mean())
        self._process = Process(encoding, rows, self._scale.to(errors), BIAS if self._before else 1.0)

    def _slopes(self, architectures: Sequence[Architecture], features: Floats) -> tuple[Floats, Floats]:
        """Return the slopes' quantities and their variances, (architectures, slopes) each."""
        columns, variances = [], []
        for belief in self._before:
            mean, deviation = belief.normal(architectures, features)
            columns.append(mean)
            variances.append(deviation**2)
        if self._scores is not None:
            scores = self._scores(architectures)
            columns += list(scores.T)
            variances += [np.zeros(len(scores))] * scores.shape[1]
        if not columns:
            return np.zeros((len(features), 0)), np.zeros((len(features), 0))
        return np.stack(columns, axis=1), np.stack(variances, axis=1)

    def normal(self, architectures: Sequence[Architecture], features: Floats | None = None) -> tuple[Floats, Floats]:
        """Return mean and deviation of each network's error on the scale of the process, where it is about normal."""
        features = self._encoding(architectures) if features is None else features
        slopes, variances = self._slopes(architectures, features)
        mean, deviation = self._process.predict(Rows.of_networks(features, slopes))
        return mean, np.sqrt(deviation**2 + variances @ self._process.slopes**2)

    def __call__(self, architectures: Sequence[Architecture]) -> tuple[Floats, Floats]:
        """Return mean and deviation of each network's error, in percent, (architectures,) each.

        The mean is that of the distribution in percent, not the percentage at the mean of the transformed scale.
        """
        mean, deviation = self.normal(architectures)
        nodes, weights = np.polynomial.hermite_e.hermegauss(7)
        at = self._scale.back((mean[:, None] + deviation[:, None] * nodes).ravel()).reshape(len(mean), -1)
        weights = weights / weights.sum()
        centre = at @ weights
        return centre, np.sqrt(np.maximum((at - centre[:, None]) ** 2 @ weights, 1e-12))

    def reach(self) -> dict[Belief, float]:
        """Return how far the error expected here rises with that expected by each source before, this one included.

        Both are on the scales of their processes.
        """
        found = {self: 1.0}
        for belief, slope in zip(self._before, self._process.slopes, strict=False):
            for source, further in belief.reach().items():
                found[source] = found.get(source, 0.0) + float(slope) * further
        return found

    def covariance(self, architectures: Sequence[Architecture]) -> Floats:
        """Return the covariance of the errors of networks, what sources before leave unsaid aside, (networks, networks).

        It is on the scale of the process, and so is `noise`.
        """
        features = self._encoding(architectures)
        _, root = self._process.joint(Rows.of_networks(features, self._slopes(architectures, features)[0]))
        return np.asarray(root @ root.T)

    @property
    def noise(self) -> float:
        """Variance of a measurement by chance, that of the images included."""
        return self._process.noise + self._known

    def draws(self, architectures: Sequence[Architecture], count: int, rng: np.random.Generator) -> Floats:
        """Draw the errors of all these networks together, `count` times, in percent, (count, architectures).

        Networks that are alike go up and down together, so that the best of many is not merely the luckiest.
        """
        features = self._encoding(architectures)
        slopes, variances = self._slopes(architectures, features)
        mean, root = self._process.joint(Rows.of_networks(features, slopes))
        drawn = mean + rng.standard_normal((count, len(mean))) @ root.T
        drawn += rng.standard_normal(drawn.shape) * np.sqrt(variances @ self._process.slopes**2)
        return self._scale.back(drawn.ravel()).reshape(drawn.shape)

    def shrink(self, observations: Sequence[Observation]) -> Floats:
        """Return the expected error of networks that were measured once more, together, since the process was conditioned.

        Only their own measurements count, and the chance of the images that they share: what conditioning the whole process
        would add is small, and takes a cube of time. (observations,), in percent.
        """
        mean, deviation = self.normal([o.architecture for o in observations])
        errors = np.array([o.error for o in observations])
        away = self._scale.to(errors) - mean
        spread = deviation**2 + self._process.noise
        common = away.mean() / (1 + spread.mean() / (len(away) * max(self._process.shared, 1e-9)))
        gain = deviation**2 / spread
        return self._scale.back(mean + gain * (away - common))


def believe(
    encoding: Encoding,
    sources: Sequence[Sequence[Observation]],
    scores: Scores | None = None,
    places: Sequence[int] = (),
) -> list[Belief]:
    """Return what the sources up to each say together of a network's error as that one measures it.

    A source weighs what the one before it expects, and what the last one of every place before expects: two proxies that are
    wrong about different networks are worth more together than either.

    Args:
        encoding: Features of architectures.
        sources: Measurements of each source, from the cheapest to the most faithful.
        scores: Training-free scores of networks, which the last source weighs.
        places: Place of each source; by default one for all.

    Returns:
        A belief for each source with enough measurements to learn from, that of the most faithful last.
    """
    of = places or [0] * len(sources)
    enough = [(place, some) for place, some in zip(of, sources, strict=True) if len(some) >= FEWEST]
    found: list[Belief] = []
    latest: dict[int, Belief] = {}  # of each place
    for i, (place, observations) in enumerate(enough, 1):
        others = [belief for other, belief in latest.items() if other != place]
        before = list(dict.fromkeys([*others, *found[-1:]]))
        latest[place] = Belief(encoding, observations, before, scores if i == len(enough) else None)
        found.append(latest[place])
    return found


def normal_scores(values: Floats) -> Floats:
    """Turn each column into standard normal quantiles of its ranks, (rows, columns); 0 where there is no finite value."""
    found = np.zeros_like(values)
    for i, column in enumerate(values.T):
        known: NDArray[np.bool_] = np.isfinite(column)
        if known.sum() > 1 and np.ptp(column[known]) > 0:
            found[known, i] = norm.ppf((rankdata(column[known]) - 0.5) / known.sum())
    return found
