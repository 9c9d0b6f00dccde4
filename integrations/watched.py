"""A training that an adapter watches: the watch begins and ends with the framework's own loop, or joins another one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from traincheck.agreement import Agreement
from traincheck.check import Checker
from traincheck.findings import CheckResult, Finding
from traincheck.options import Options
from traincheck.reaction import LOGGER
from traincheck.record import LAUNCHED, Session, active
from traincheck.watching import Watch, prepare


class Watched:
    """What every callback holds: its options, and the watch of the training that runs, or of the last one."""

    def __init__(self, name: str, options: Options) -> None:
        """``name`` is how messages call it. Raises what :meth:`Options.validate` and :meth:`Options.gathered` raise."""
        options.validate()
        options.gathered({})
        self.name = name
        self.options = options
        self.watch: Watch | None = None
        """Our own watch; ``None`` before the first training, and while another session does the watching."""
        self.session: Session | None = None
        """To whom the moments of the training that runs are told."""
        self._agreement: Agreement | None = None

    @property
    def result(self) -> CheckResult:
        """The verdict so far on the training that runs, or on the last one."""
        return Checker(()).result() if self.watch is None else self.watch.result

    def begin(self, rank: int, listen: Callable[[Finding], object] | None = None) -> bool:
        """A training begins: whether a watch of our own has begun with it.

        Ranks other than the first say nothing, and write a report of their own.
        """
        left = active()
        if left is not None and left.name == self.name:
            left.close()  # a training that failed says no goodbye
            left = None
        if left is None:
            self._start(rank, listen)
        else:
            self._join(left)
        return left is None

    def _join(self, other: Session) -> None:
        self.watch, self._agreement, self.session = None, None, None
        if other.name in LAUNCHED.values():
            # The adapters of a launch see this training by themselves: told twice, a step would count twice.
            LOGGER.info("TrainCheck: %s watches this program; %s adds nothing", other.name, self.name)
            return
        LOGGER.info("TrainCheck: %s watches this training; %s only tells it the steps", other.name, self.name)
        self.session = other

    def _start(self, rank: int, listen: Callable[[Finding], object] | None) -> None:
        options = self.options
        if options.report is not None and rank:
            options = replace(options, report=Path(options.report) / f"rank-{rank}")
        self.watch = prepare(options, name=self.name, listen=listen, quiet=rank != 0)
        self.watch.start()
        self.session = self.watch.session
        self._agreement = Agreement() if options.on_violation == "stop" else None

    def tell(self, moment: str, work: Callable[..., object], *args: Any, **kwargs: Any) -> None:
        """Hand a moment on. A fault of ours is contained; only a violation that is to be raised comes through."""
        if self.session is not None:
            self.session.boundary.run(moment, lambda: work(*args, **kwargs))

    def should_stop(self) -> bool:
        """Whether the training is to end, on all ranks: each of them asks once for each step."""
        return self._agreement is not None and self.watch is not None and self._agreement.any(self.watch.should_stop)

    def end(self) -> None:
        """The training is over. With ``on_violation="raise"`` what its last steps show is raised here."""
        self.session = None
        if self.watch is not None:
            self.watch.close()
