"""How far a build is, how fast, and how much longer it takes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from expansion_contract.report import Progress
from expansion_trainer.progress import Clock


@dataclass(kw_only=True)
class Pace:
    """What is taken up from an earlier build says nothing about the speed of this one."""

    total: int
    message: str
    show: Callable[[Progress], None]
    clock: Clock
    _began: tuple[datetime, int] | None = field(default=None, init=False)

    def tell(self, done: int) -> None:
        now = self.clock()
        self._began = self._began or (now, done)
        seconds = (now - self._began[0]).total_seconds()
        speed = (done - self._began[1]) / seconds if seconds > 0 and done > self._began[1] else None
        self.show(
            Progress(
                run_id="",
                stage="Pack",
                percent=100 * done // max(self.total, 1),
                message=self.message,
                images_per_second=speed,
                eta_seconds=(self.total - done) / speed if speed else None,
            )
        )
