"""How much each image of no new category counts when the boundary is set: as much as a fair sample of the base would let it.

Somebody who is asked for pictures of the old categories near the new ones gives just these. They teach best, but counted like others
they would say that the base looks like the new categories. So the images are taken apart by whether their category is among those that
have labelled images, S of C0: a labelled one by its label, another by the base's answer. Each part counts as much as its share of the
base's categories, S / C0 and the rest, whatever its number of images (post-stratification).
"""

import numpy as np

from expansion_trainer.head.softmax import Array, Doubles, Labels, Rows

UNKNOWN = -1
"""The label of a photograph or drawing that nobody labelled."""
FAIR = 0.75
"""Share of the base's categories with a labelled image from which on these are a fair sample: a split keeps some images aside."""


def is_fair(labels: Labels, base_count: int) -> bool:
    """Whether the labelled images among these speak for all of the base."""
    return len(np.unique(labels[labels != UNKNOWN])) >= FAIR * base_count


def weights(base: Rows | None, bottlenecks: Array, labels: Labels) -> Doubles:
    """(n,), the greatest is 1. `bottlenecks` (n, D) as the base takes them; `labels` (n,), the base's categories, or UNKNOWN."""
    even = np.ones(len(labels))
    if base is None or is_fair(labels, len(base.bias)) or (labels == UNKNOWN).all():
        return even
    named = np.unique(labels[labels != UNKNOWN])
    answers = np.where(labels == UNKNOWN, base.logits(bottlenecks).argmax(axis=1), labels)
    is_named = np.isin(answers, named)
    if is_named.all():
        return even
    share = len(named) / len(base.bias)
    counted = np.where(is_named, share / is_named.sum(), (1 - share) / (~is_named).sum())
    found: Doubles = counted / counted.max()
    return found
