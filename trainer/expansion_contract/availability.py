"""Names what the resource can say and this release cannot do yet, so that it is refused by name and never ignored."""

from collections.abc import Callable

from expansion_contract.resource import ExpansionSpec, Solver, Strategy

_LATER: tuple[tuple[str, Callable[[ExpansionSpec], bool], str], ...] = (
    (
        "spec.distortions",
        lambda s: s.distortions.is_on and s.training.head.solver is Solver.DISCRIMINANT,
        "remove it, or spec.training.head.solver: Discriminant, which is solved from sums over images",
    ),
    ("spec.training.fineTune", lambda s: s.training.fine_tune is not None, "remove it"),
    ("spec.compute.workers", lambda s: s.compute.workers > 1, "use 1"),
    (
        "spec.serving.rollout.strategy",
        lambda s: s.serving.rollout.strategy is Strategy.CANARY,
        "use Immediate",
    ),
)


def refused(spec: ExpansionSpec) -> tuple[str, ...]:
    """One sentence for each field that asks for something this release cannot do; empty if all of it can be done."""
    return tuple(
        f"{path} asks for something this release does not do yet; {remedy}."
        for path, asks, remedy in _LATER
        if asks(spec)
    )
