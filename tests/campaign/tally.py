"""Count of what was tried and what became of it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.campaign.process import Outcome


@dataclass
class Tally:
    """Numbers of disturbances and outcomes.

    Attributes:
        kills: Processes that were killed.
        survived: Runs that were killed and went on to equal records.
        with_ray: Drivers and workers that were killed with Ray.
        survived_with_ray: Runs whose were, and that went on to equal records.
        disks: Runs on a disk that was too small.
        flips: Bits that were flipped.
        told: Flipped bits that were told, or that made no difference to the records.
        inputs: Wrong inputs, by kind.
        refused: Those of them that were refused clearly.
        accepted: Those that were taken, as many are no errors.
        faults: What went wrong, in words.
        skipped: What could not be tried here, and why.
    """

    kills: int = 0
    survived: int = 0
    with_ray: int = 0
    survived_with_ray: int = 0
    disks: int = 0
    flips: int = 0
    told: Counter[str] = field(default_factory=Counter)
    inputs: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    accepted: Counter[str] = field(default_factory=Counter)
    faults: list[tuple[str, str, str]] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    def fault(self, what: str, ended: Outcome) -> None:
        """Take note of an outcome that should not be."""
        kind = "hang" if ended.hung else "traceback" if ended.traceback else "exit code" if ended.code else "silence"
        self.faults.append((kind, what, ended.output))
        print(f"FAULT ({kind}, exit code {ended.code}): {what}\n{_last(ended.output)}", flush=True)

    def ends_well(self, what: str, ended: Outcome, equal: Callable[[], bool]) -> bool:
        """Tell whether a run that was killed came to its end with equal records, and take note of it where it did not.

        Args:
            what: The run, and what happened to it.
            ended: Outcome of its last command.
            equal: Tells whether its records are those of an undisturbed run; asked only where the command succeeded.
        """
        if not ended.code and equal():
            return True
        self.fault(what if ended.code else f"{what}: other records", ended)
        return False

    def judge(self, kind: str, what: str, ended: Outcome, *, wrong: bool = False) -> None:
        """Count an input, and take note of it where it was neither taken nor refused clearly.

        Args:
            kind: Kind of input.
            what: The input.
            ended: Outcome of the command that was given it.
            wrong: Whether it has to be refused.
        """
        self.inputs[kind] += 1
        if ended.clear:
            self.refused[kind] += 1
        elif ended.code == 0 and not ended.traceback and not wrong:
            self.accepted[kind] += 1
        else:
            self.fault(f"{kind}: {what}", ended)

    def lines(self) -> list[str]:
        """Return the counts, for people."""
        said = [
            f"kills: {self.kills}, runs that went on to equal records: {self.survived}",
            f"kills with Ray: {self.with_ray}, runs that went on to equal records: {self.survived_with_ray}",
            f"full disks: {self.disks}",
            f"flipped bits: {self.flips}; " + ", ".join(f"{count} {how}" for how, count in self.told.most_common()),
        ]
        said += [f"{kind}: {n}, refused {self.refused[kind]}, taken {self.accepted[kind]}" for kind, n in self.inputs.items()]
        said += [f"not tried: {what}: {why}" for what, why in self.skipped.items()]
        found = Counter(kind for kind, _, _ in self.faults)
        return [*said, f"faults: {len(self.faults)} ({', '.join(f'{n} {kind}' for kind, n in found.items()) or 'none'})"]


def _last(output: str, lines: int = 12) -> str:
    shown = [re.sub(r"\s+$", "", line)[:300] for line in output.splitlines() if line.strip()][-lines:]
    return "\n".join(f"    {line}" for line in shown)
