"""How faithful heatmaps are ("explanations"): which photographs they beat each baseline on."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import mean
from typing import Any

from perf.harness.raw import RawResult

__all__ = ["CURVES", "HEATMAP", "MASKED", "METHODS", "WHERE", "Beaten", "beaten", "mean_curve", "measured"]

HEATMAP = "heatmap"
MASKED = "masked copies"
METHODS = {HEATMAP: "class maps", MASKED: "masked copies"}  # those that look; the others are baselines
WHERE = {"as they are": "as photographed", "off-centre": "pasted off-centre"}
CURVES = {"deletion": -1, "insertion": 1}  # whether less or more area below is better


@dataclass(frozen=True)
class Beaten:
    """Of `photographs`, those on which a method's curve is better than that of the baseline."""

    where: str
    baseline: str
    deletion: int
    insertion: int
    photographs: int

    @property
    def shares(self) -> tuple[float, float]:
        """Of deletion and of insertion, 0 to 1."""
        return self.deletion / self.photographs, self.insertion / self.photographs


def measured(raw: RawResult) -> list[str]:
    """The METHODS that were."""
    return [method for method in METHODS if method in raw["photographs"][0]["areas"]]


def beaten(raw: RawResult, method: str = HEATMAP) -> list[Beaten]:
    """For photographs as they are and off-centre, and each baseline. Areas are means over what was repeated:
    random orders, and corners. method: one of METHODS that was measured."""
    found = []
    for where in WHERE:
        photographs = [photograph for photograph in raw["photographs"] if photograph["where"] == where]
        for baseline in photographs[0]["areas"] if photographs else ():
            if baseline in METHODS:
                continue
            wins = {
                curve: sum(_better(one["areas"], method, baseline, curve) for one in photographs)
                for curve in CURVES
            }
            found.append(Beaten(where, baseline, wins["deletion"], wins["insertion"], len(photographs)))
    return found


def mean_curve(photographs: Iterable[Mapping[str, Any]], method: str, curve: str) -> list[float]:
    """The mean over photographs of what is left of a class's probability, as a share of the whole image's."""
    curves = [
        [value / photograph["probability"] for value in photograph["curves"][method][curve]]
        for photograph in photographs
    ]
    return [mean(values) for values in zip(*curves, strict=True)]


def _better(areas: Mapping[str, Mapping[str, float]], method: str, baseline: str, curve: str) -> bool:
    return CURVES[curve] * (areas[method][curve] - areas[baseline][curve]) > 0
