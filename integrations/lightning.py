"""``Trainer(callbacks=[TrainCheckCallback()])``: a Lightning training that is checked while it runs.

The callback fits both import names, ``lightning`` and ``pytorch_lightning``, and ``Fabric(callbacks=[...])``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from torch.nn import Module

from traincheck.findings import CheckResult, Finding
from traincheck.options import DEFAULT_OVERHEAD, Options
from traincheck.plan import Interruption
from traincheck.reaction import LOGGER, OnViolation
from traincheck.selection import Sources

from .lightning_moments import TrainerMoments, methods
from .watched import Watched

__all__ = ["TrainCheckCallback"]

NAME: Final = "TrainCheckCallback"
NAMESPACES: Final = ("lightning.pytorch", "pytorch_lightning")
METRIC: Final = "traincheck/violations"


def _callbacks() -> Iterator[type]:
    """The class that callbacks of each installed namespace have in common."""
    for namespace in NAMESPACES:
        if find_spec(namespace.partition(".")[0]) is not None:
            yield import_module(f"{namespace}.callbacks").Callback


BASES: Final = tuple(_callbacks())
if not BASES:
    raise ImportError('TrainCheckCallback needs lightning. Run: pip install "traincheck-suite[lightning]"')


def _hand_on(callback: Any, name: str, trainer: Any = None, *args: Any) -> None:
    # A loop written with Fabric may call hooks of these names with arguments of its own.
    if _is_trainer(trainer):
        callback.tell(name, trainer, *args)


def _is_trainer(item: Any) -> bool:
    return hasattr(item, "fit_loop")


_Hooks: Any = type("_Hooks", BASES, methods(_hand_on))


class TrainCheckCallback(_Hooks):  # type: ignore[misc]  # which classes it stands on is known at run time
    """Checks each ``fit`` of the Trainer that it is given to.

    The options are those of :func:`traincheck.watch`. Without any, the invariants of the ``lightning`` pack are checked
    within 2 % of the training time, and each violation is one warning. With ``on_violation="stop"`` training ends after
    the step, on all ranks (but not before ``min_epochs`` and ``min_steps``); with ``"raise"``
    :class:`traincheck.ViolationError` carries the findings. Ranks other than the first say nothing; with ``report``
    each of them writes a page of its own. The number of findings is logged as ``traincheck/violations``.

    Steps are counted from 0, as ``trainer.global_step`` stands while the step runs. With manual optimisation a batch in
    which several optimizers step is one step, although Lightning counts each of them.

    In ``Fabric(callbacks=[...])`` watching begins with the first ``fabric.setup`` and ends with :meth:`close`, or with
    the program. The loop is the user's own: its steps are found, and to stop it has to look at :attr:`should_stop`.

    Lightning's FSDP and DeepSpeed strategies refuse a CPU: with them the callback has not been run.

    Raises ``ValueError`` for an option that does not exist, and :class:`traincheck.errors.UserError` for packs and
    files that cannot be read.
    """

    def __init__(
        self,
        *,
        zoo: str | Sequence[str] | None = "lightning",
        invariants: Sources | None = None,
        on_violation: OnViolation = "warn",
        select: str | Sequence[str] | None = None,
        ignore: str | Sequence[str] | None = None,
        overhead: float | None = DEFAULT_OVERHEAD,
        report: str | Path | None = None,
    ) -> None:
        options = Options(
            zoo=zoo,
            invariants=invariants,
            on_violation=on_violation,
            select=select,
            ignore=ignore,
            overhead=overhead,
            report=report,
        )
        self._watched = Watched(NAME, options)
        self._moments: TrainerMoments | None = None

    @property
    def result(self) -> CheckResult:
        """The verdict so far on the training that runs, or on the last one."""
        return self._watched.result

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was found so far."""
        return self.result.findings

    @property
    def should_stop(self) -> bool:
        """With ``on_violation="stop"``: whether a loop written with Fabric should end now, as this rank sees it."""
        return self._watched.watch is not None and self._watched.watch.should_stop

    def close(self) -> None:
        """Judge the last steps and stop. A Trainer does this by itself."""
        self._watched.end()

    def setup(self, trainer: Any = None, pl_module: Any = None, stage: str = "") -> None:
        """A Trainer begins: weights are restored and optimizers made after this."""
        if not _is_trainer(trainer):
            return
        first = next(callback for callback in trainer.callbacks if isinstance(callback, TrainCheckCallback))
        if first is not self:
            LOGGER.warning("TrainCheck: this Trainer has more than one %s; only the first of them watches", NAME)
        elif stage == "fit":
            self._watched.begin(trainer.global_rank)

    def tell(self, name: str, *args: Any) -> None:
        """Hand a hook of a Trainer on to what translates it."""
        session = self._watched.session
        if session is None:
            return
        if self._moments is None or self._moments.session is not session:
            self._moments = TrainerMoments(session)
        self._watched.tell(f"lightning.{name}", getattr(self._moments, name), *args)

    def on_train_batch_end(self, trainer: Any = None, pl_module: Any = None, *args: Any, **kwargs: Any) -> None:
        """A batch is done, and perhaps a step."""
        session = self._watched.session
        if session is None or not _is_trainer(trainer):
            return
        step = session.step
        self.tell("on_train_batch_end", trainer, pl_module, *args)
        if self._watched.watch is None or session.step == step:
            return
        if not trainer.barebones:
            pl_module.log(METRIC, float(len(self.findings)), batch_size=1)
        if self._watched.should_stop():
            trainer.should_stop = True

    def on_exception(self, trainer: Any = None, pl_module: Any = None, *args: Any, **kwargs: Any) -> None:
        """The training failed: there is no teardown after this."""
        if _is_trainer(trainer):
            self.tell("on_exception", trainer, pl_module)
            with suppress(Interruption):  # the error that ends the training is not replaced by ours
                self.close()

    def teardown(self, trainer: Any = None, pl_module: Any = None, stage: str = "") -> None:
        """The Trainer has done its last, checkpoints included."""
        if _is_trainer(trainer):
            self.close()

    def on_after_setup(self, fabric: Any, module: Module) -> None:
        """Fabric wrapped a model: a loop of the user's own begins to be watched with the first of them."""
        if self._watched.session is None:
            self._watched.begin(fabric.global_rank)
        if self._watched.session is not None:
            self._watched.session.watch(module)
