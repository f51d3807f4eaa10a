"""What every row of the accuracy table should reach, and whether it does."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CALIBRATION_OVERALL, CALIBRATION_GROUP = 0.02, 0.03


@dataclass(frozen=True, kw_only=True)
class Target:
    drop: float  # of base accuracy, at most; one image is never too many
    share: float  # of what the new categories reach among themselves, at least


@dataclass(frozen=True, kw_only=True)
class Verdict:
    target: str
    met: bool
    why: str  # empty if met


UNLIKE = {
    "replay": Target(drop=0.003, share=0.99),
    "unlabelled": Target(drop=0.005, share=0.99),
    "near": Target(drop=0.003, share=0.99),
    "pack": Target(drop=0.005, share=0.98),
    "none": Target(drop=0.005, share=0.98),
}
"""New categories unlike the old ones: flowers, digits."""
ALIKE = {
    "replay": Target(drop=0.003, share=0.86),
    "unlabelled": Target(drop=0.005, share=0.85),
    "near": Target(drop=0.003, share=0.87),
    "pack": Target(drop=0.005, share=0.84),
    "none": Target(drop=0.01, share=0.83),
}
"""New categories that look like old ones: Caltech-101's objects, and any set that we do not know."""


def target(new_set: str, evidence: str) -> Target:
    return (UNLIKE if new_set in ("flowers5", "digits") else ALIKE)[evidence]


def verdict(row: Mapping[str, Any]) -> Verdict:
    aim = target(row["new_set"], row["evidence"])
    drop, share = row["base_drop"], row["share"]
    allowed = max(1.0, aim.drop * drop.n)
    missed = []
    if drop.value * drop.n > allowed + 1e-9:
        missed.append(f"drop {100 * drop.value:.2f}")
    if share.value < aim.share:
        missed.append(f"share {share.value:.3f}")
    if not row["identical"]:
        missed.append("base rows changed")
    wanted = f"≤ {100 * aim.drop:.1f} / ≥ {aim.share:.2f}"
    return Verdict(target=wanted, met=not missed, why=", ".join(missed))


CALIBRATED = (("overall", CALIBRATION_OVERALL), ("base", CALIBRATION_GROUP), ("new", CALIBRATION_GROUP))


def calibrated(row: Mapping[str, Any]) -> Verdict:
    """The error, or the floor for so few images where that is higher. The floor is a mean: half of all perfect heads are above it."""
    missed = []
    for group, limit in CALIBRATED:
        found = row["calibration"][group]
        if found.error > max(limit, found.floor) + 1e-9:
            missed.append(f"{group} {100 * found.error:.1f} > {100 * max(limit, found.floor):.1f}")
    return Verdict(target="≤ 2 / 3 / 3, or the floor", met=not missed, why=", ".join(missed))


def beyond_chance(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Where the error is above the target and above what a perfectly calibrated head stays below in 95 % of draws."""
    groups = row["calibration"]
    return tuple(
        group
        for group, limit in CALIBRATED
        if groups[group]["error"] > max(limit, groups[group]["most"]) + 1e-9
    )
