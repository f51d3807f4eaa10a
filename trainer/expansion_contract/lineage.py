"""What an output's versions say to the next run: which indices were given, and whose category list is continued. Pure."""

from collections.abc import Sequence

from expansion_contract.version import ServingDocument, VersionManifest


def given(document: ServingDocument | None, versions: Sequence[VersionManifest]) -> tuple[str, ...]:
    """New categories that ever got an index, in the order of their indices: the longest list anybody wrote down."""
    told = tuple(document.given) if document else ()
    for manifest in versions:
        if len(manifest.given) > len(told):
            told = tuple(manifest.given)
    return told


def continued(versions: Sequence[VersionManifest]) -> VersionManifest | None:
    """The version that knows every index given: the longest list, the most categories (a base may shrink), the newest."""
    return max(
        versions,
        key=lambda manifest: (len(manifest.given), manifest.categories, manifest.version),
        default=None,
    )
