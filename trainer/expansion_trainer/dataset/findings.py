"""Keeps findings readable: ten thousand categories with the same trouble are one sentence."""

from collections.abc import Callable, Sequence

from expansion_contract.dataset import listed
from expansion_contract.report import Finding

SINGLY = 10
"""How many categories get a finding of their own for the same reason."""


def few(found: Sequence[Finding], together: Callable[[str], str]) -> Sequence[Finding]:
    """`found`: all for one reason, each of one category. `together`: what to say of '17 categories ('a', …)' instead."""
    if len(found) <= SINGLY:
        return found
    names = [finding.category or "" for finding in found]
    message = together(f"{len(names)} categories ({listed(names)})")
    return [Finding(severity=found[0].severity, reason=found[0].reason, message=message)]
