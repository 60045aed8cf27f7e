"""Results by data set, net, class sizes and noise: values of the seeds, and means."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from experiments import NOISES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from experiments import Experiment


@dataclass(frozen=True, order=True)
class Case:
    """What a row of the tables stands for."""

    data: str
    net: str
    imbalance: int

    def __str__(self) -> str:
        return f"{self.data}, {self.net}" + (f", {self.imbalance}:1" if self.imbalance > 1 else "")


class Summary:
    """What was measured, to be asked for by case, noise and the names of a figure."""

    def __init__(self, rows: Mapping[Experiment, Mapping[str, Any]]) -> None:
        self.experiments = sorted(rows, key=lambda each: (each.data, each.net, each.imbalance, each.seed))
        self._figures: dict[tuple[Case, str], list[Mapping[str, Any]]] = {}
        for each in self.experiments:
            place = Case(each.data, each.net, each.imbalance), each.noise
            self._figures.setdefault(place, []).append(rows[each]["figures"])

    def cases(self, imbalance: int | None = None) -> list[Case]:
        """All of them, or those of some class sizes, in alphabetical order."""
        found = {case for case, _ in self._figures}
        return sorted(case for case in found if imbalance in (None, case.imbalance))

    def noises(self, cases: Iterable[Case]) -> list[str]:
        """The kinds of noise that all of the cases have, in their usual order."""
        wanted = list(cases)
        return [noise for noise in NOISES if all((case, noise) in self._figures for case in wanted)]

    def full_cases(self, imbalance: int) -> list[Case]:
        """Those with the most kinds of noise: means over them compare like with like."""
        cases = self.cases(imbalance)
        most = max((len(self.noises([case])) for case in cases), default=0)
        return [case for case in cases if len(self.noises([case])) == most]

    def values(self, case: Case, noise: str, *names: str) -> list[float]:
        """A figure of each seed, where it is defined: of ``"cuts", "plain run, AUM < 0", "f1"``, for instance."""
        found = []
        for figures in self._figures.get((case, noise), []):
            value: Any = figures
            for name in names:
                value = value.get(name) if value is not None else None
            if value is not None:
                found.append(float(value))
        return found

    def mean(self, cases: Iterable[Case], noise: str, *names: str) -> float | None:
        """Mean over the cases of the means over the seeds; None where a case has none."""
        values = [self.values(case, noise, *names) for case in cases]
        return fmean(fmean(each) for each in values) if values and all(values) else None

    def mean_of_defined(self, cases: Iterable[Case], noise: str, *names: str) -> float | None:
        """Mean over the cases that have the figure: a precision, say, where something was flagged."""
        means = [fmean(each) for each in (self.values(case, noise, *names) for case in cases) if each]
        return fmean(means) if means else None

    def seeds(self, case: Case, noise: str) -> int:
        """How many seeds were run."""
        return len(self._figures.get((case, noise), []))
