"""The only room of the trainer that opens storage: where a run reads its images and where it leaves what it makes."""

from dataclasses import dataclass
from pathlib import Path

from expansion_contract import layout
from expansion_contract.report import File
from expansion_contract.run import StorageAccess, TrainingRun
from expansion_storage import ObjectMissing, Prefix, StorageRefused, open_prefix
from expansion_trainer.errors import InvalidRun
from expansion_trainer.run_files import described, files_below

_CONTENT_TYPES = {".html": "text/html; charset=utf-8", ".json": "application/json"}


@dataclass(frozen=True, kw_only=True)
class Stores:
    access: StorageAccess
    run: Prefix  # runs/<run id>/
    candidate: Prefix  # runs/<run id>/candidate/
    cache: Prefix  # of bottlenecks, shared between runs
    scratch: Path  # the only local folder that is written to

    def open(self, address: str) -> Prefix:
        """Any place that the run's document names."""
        return open_prefix(address, self.access)

    def fetch(self, address: str, target: Path) -> None:
        """The object at `address` into a file. Raises ObjectMissing."""
        folder, _, name = address.rpartition("/")
        self.open(folder).download(name, target)

    def write_run_file(self, name: str, content: bytes) -> None:
        self.run.write(name, content, _CONTENT_TYPES.get(Path(name).suffix, "application/octet-stream"))

    def upload_run_folder(self, folder: Path, name: str) -> None:
        for path in files_below(folder):
            self.run.upload(f"{name}/{path.relative_to(folder).as_posix()}", path)

    def upload_candidate(self, folder: Path) -> list[File]:
        """Replaces whatever an earlier attempt left there; the complete list of files comes back."""
        files = described(folder)
        for file in files:
            self.candidate.upload(file.path, folder / file.path)
        kept = {file.path for file in files}
        for key in [entry.key for entry in self.candidate.list() if entry.key not in kept]:
            self.candidate.delete(key)
        return files


def stores_of(run: TrainingRun, scratch: Path) -> Stores:
    """Nothing is asked of any store yet."""
    output = open_prefix(run.output, run.storage)
    return Stores(
        access=run.storage,
        run=output.below(layout.run(run.run_id)),
        candidate=output.below(layout.candidate(run.run_id)),
        cache=open_prefix(run.cache, run.storage),
        scratch=scratch,
    )


def read_document(address: str, access: StorageAccess) -> bytes:
    """One object by its full address. A missing one is refused: nobody will bring it while we wait."""
    folder, slash, name = address.rpartition("/")
    if not slash or not name:
        raise InvalidRun(f"{address!r} is not the address of a document; it should end in /{layout.RUN}.")
    try:
        return open_prefix(folder, access).read(name)
    except ObjectMissing as error:
        raise StorageRefused(f"{error} The run's document should lie there.", "RunMissing") from None
