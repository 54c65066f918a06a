"""What measurements come to: medians, ratios of rounds, and whether they are what was promised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """A ratio that is to be reached: `at_least` or `at_most`."""

    name: str
    value: float | None
    at_least: float | None = None
    at_most: float | None = None

    @property
    def reached(self) -> bool:
        """Whether it was; what was not measured was not."""
        if self.value is None:
            return False
        return (self.at_least is None or self.value >= self.at_least) and (
            self.at_most is None or self.value <= self.at_most
        )

    def document(self) -> Json:
        """Return it for the JSON document."""
        target = {"at_least": self.at_least} if self.at_least is not None else {"at_most": self.at_most}
        return {"value": None if self.value is None else float(f"{self.value:.3g}"), **target, "reached": self.reached}

    def line(self) -> str:
        """Return it for people."""
        sign, target = ("≥", self.at_least) if self.at_least is not None else ("≤", self.at_most)
        told = "not measured" if self.value is None else f"{self.value:.3g}"
        return f"{'PASS' if self.reached else 'MISS'}  {self.name}: {told} (promise: {sign} {target})"


def ratio(above: Json | None, below: Json | None, key: str) -> float | None:
    """Return the median over rounds of one measurement's value by another's, of the same round."""
    if above is None or below is None:
        return None
    return float(median(one[key] / other[key] for one, other in zip(above["rounds"], below["rounds"], strict=True)))


def summary(rounds: Sequence[Json]) -> Json:
    """Return rounds of one measurement, with medians before them."""
    keys = [key for key in rounds[0] if key != "steps"]
    return {**{key: median(one[key] for one in rounds) for key in keys}, "rounds": list(rounds)}
