"""All that a search has measured, as observations of networks' errors by source."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from analysis import records
from orchestrator.judge.belief import FEWEST, Chance, Observation
from orchestrator.tasks.classification import binomial
from searchers.base import Architecture

Key = tuple[int, int, int]
"""Place, epochs and stage of a source."""


@dataclass(frozen=True)
class Measurement:
    """A row of the records, as far as the judge is concerned.

    Args:
        kind: Of evaluation, one of `analysis.records`.
        epochs: Epochs for which the network was trained alone for this; 0 for shared weights.
        place: Number of the place where it was trained, of which later ones are more faithful.
        stage: Index of the search's stage.
        step: Weight steps of the shared weights so far.
        architecture: The network.
        error: In percent, or on the scale of 0 to 100 that the task brings its cost to.
    """

    kind: str
    epochs: int
    place: int
    stage: int
    step: int
    architecture: Architecture
    error: float

    @property
    def source(self) -> Key:
        """Order of the source that it belongs to, the most faithful last: of each place, weights of each stage, then longer
        trainings alone."""
        return (self.place, self.epochs, 0 if self.epochs else self.stage)


class Evidence:
    """Measurements in the order in which they were made.

    Args:
        batch: Images that a sample is measured on.
        images: Images that all other measurements are made on, at each place.
        chance: Variance of a measurement by the choice of images.
    """

    def __init__(self, batch: int, images: Sequence[int], chance: Chance = binomial) -> None:
        self.batch, self.images, self.chance = batch, list(images), chance
        self.measurements: list[Measurement] = []

    def sources(self, count: int | None = None) -> dict[Key, list[Observation]]:
        """Return the observations of each source among the first `count` measurements, the most faithful source last."""
        grouped: dict[Key, list[Measurement]] = {}
        for measurement in self.measurements[:count]:
            grouped.setdefault(measurement.source, []).append(measurement)
        return {source: self._observations(grouped[source]) for source in sorted(grouped)}

    def enough(self, count: int) -> bool:
        """Tell whether a belief on the first `count` measurements is of the source that the last of all belongs to."""
        source = self.measurements[-1].source
        same = (m for m in itertools.islice(self.measurements, count) if m.source == source)
        return sum(1 for _ in itertools.islice(same, FEWEST)) == FEWEST

    def trained_alone(self, count: int | None = None) -> int:
        """Count the measurements of networks that were trained alone beside shared weights, among the first `count`."""
        return sum(m.epochs > 0 for m in self.measurements[:count])

    def _observations(self, measurements: Sequence[Measurement]) -> list[Observation]:
        """Return the observations of one source, whose last weights count as finished."""
        first, last = measurements[0].step, measurements[-1].step
        length = max(1, last - first)
        return [
            Observation(
                m.architecture,
                m.error,
                self.batch if m.kind == records.SAMPLE else self.images[m.place],
                batch=m.step if m.kind == records.SAMPLE else -1,
                when=(m.step - first) / length if last > first else 1.0,
                chance=self.chance,
            )
            for m in measurements
        ]
