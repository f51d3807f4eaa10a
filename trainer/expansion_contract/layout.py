"""Where everything lies in storage, relative to `spec.output.models` unless said otherwise."""

FOLDERS = ("runs/", "versions/")
"""Beside SERVING all that is ever written to an output."""
RUN = "run.json"
PROGRESS = "progress.json"
REPORT = "report.json"
REPORT_PAGE = "report.html"
CANDIDATE = "candidate"
MANIFEST = "manifest.json"
SERVING = "serving.json"
CATEGORIES = "assets.extra/categories.json"
GOLDEN = "assets.extra/golden.json"
PACK = "pack"
PACK_DOCUMENT = "pack.json"
"""In a pack's folder; names every file of it with its digest."""


def run(run_id: str, name: str = "") -> str:
    return f"runs/{run_id}/{name}".rstrip("/")


def candidate(run_id: str, name: str = "") -> str:
    return f"runs/{run_id}/{CANDIDATE}/{name}".rstrip("/")


def version(number: int, name: str = "") -> str:
    return f"versions/{number}/{name}".rstrip("/")


def version_of(key: str) -> int | None:
    """7 for versions/7/manifest.json, the object whose presence commits a version; None for every other key."""
    parts = key.split("/")
    if len(parts) == 3 and parts[0] == "versions" and parts[2] == MANIFEST and parts[1].isdecimal():
        return int(parts[1])
    return None


def default_cache(models: str) -> str:
    """Beside the models, in the same bucket or folder, so that every expansion there shares it."""
    if models.startswith("s3://"):
        return f"s3://{models.removeprefix('s3://').split('/', 1)[0]}/bottleneck-cache/"
    return f"{models.rstrip('/').rpartition('/')[0] or '.'}/bottleneck-cache/"


def is_inside(address: str, other: str) -> bool:
    """True if one prefix is the other or lies below it; s3://b/clf does not contain s3://b/clf-2."""
    return f"{address.rstrip('/')}/".startswith(f"{other.rstrip('/')}/")
