"""A session: what one process records, from the installation of its hooks to their removal."""

from __future__ import annotations

import atexit
import functools
import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import util as multiprocessing_util
from pathlib import Path
from typing import Any, Final, Literal

import torch
from torch.nn import Module
from torch.optim import Optimizer

from traincheck.events import Record, StepEnd, VariableTable
from traincheck.plan import OpenSink, Plan
from traincheck.record.alive import alive
from traincheck.record.boundary import Boundary
from traincheck.record.calls import Calls, OpenCall
from traincheck.record.carried import Carried
from traincheck.record.contexts import Contexts
from traincheck.record.functions import ProjectFunctions
from traincheck.record.hooks import install_hooks
from traincheck.record.loose import Loose
from traincheck.record.models import Labels, Models
from traincheck.record.output import Output
from traincheck.record.patching import Gate, Patches
from traincheck.record.process import project_directory
from traincheck.record.progress import Progress
from traincheck.record.set_aside import SetAside
from traincheck.record.sites import NOWHERE, Sites
from traincheck.record.snapshots import Snapshots
from traincheck.record.steps import Steps
from traincheck.record.table import Table
from traincheck.record.ties import Ties
from traincheck.record.unheld import Unheld
from traincheck.values import Value

LAUNCHED: Final = {"collect": "traincheck-collect", "check": "traincheck-check"}
"""How the sessions that a launcher begins are called, by its mode."""

_active: Session | None = None


def active() -> Session | None:
    """The session that records in this process, or ``None``."""
    return _active


class Session:
    """Turns the running program into records. One is active at a time."""

    def __init__(
        self,
        plan: Plan,
        open_sink: OpenSink,
        *,
        framework: str = "pytorch",
        project: Path | None = None,
        step_source: Literal["auto", "manual"] = "auto",
        name: str = "a TrainCheck session",
    ) -> None:
        self.name = name
        """How errors call it."""
        self.plan = plan
        self.decide: Callable[[int], int] = _itself
        """Asked with a step's number as it begins: that number, if it is recorded, or at which one to ask again."""
        self.step = 0
        self.boundary = Boundary()
        self.gate = Gate()
        self.patches = Patches(self.gate, self.boundary)
        self._open_sink = open_sink
        self.framework = framework
        """Which loop drives the training; an adapter says so before the first step."""
        self._project = project
        self._step_source = step_source
        self._wanted: dict[str, bool] = {}
        self._undo: list[Callable[[], None]] = []
        self._closed = False
        self.models = Models(self.boundary)
        self.ties = Ties(self.models)
        self._begin_process()

    def _begin_process(self) -> None:
        """Everything that a forked child has of its own."""
        self.step = 0
        self.boundary.begin_process()
        self.gate.recording = True
        self._asks_at = 0
        """The step before which :attr:`decide` is not asked."""
        self._untold = 0
        """So many of the latest steps were left out, and their ends are not given out yet."""
        self.steps = Steps()
        self.output = Output(self._open_sink, lambda: self.framework, self.boundary)
        self.calls = Calls(self.output.emit)
        self.contexts = Contexts(self.models, self.steps, self.calls)
        self.snapshots = Snapshots(self.plan, self.models, self.calls, self.output.emit, self.boundary)
        self.table = Table(self.models)
        self.loose = Loose(self.models)
        self.unheld = Unheld(self.models)
        self.carried = Carried(self.models)
        self.set_aside = SetAside(self.models)
        self.progress = Progress(self.models)
        self.sites = Sites()
        self.loaders = Labels()
        self._walked = self._described = False
        self.scaled_loss: weakref.ref[torch.Tensor] | None = None
        """The latest loss that a gradient scaler scaled."""
        self.clipped: dict[int, tuple[weakref.ref[torch.Tensor], tuple[int, int], int]] = {}
        """Gradients that were scaled down, by identity, with the backward pass after which that was, and their version
        then."""
        self.frozen_seen = False
        """Whether the models that no optimizer of this step trains were looked at in this step."""

    @property
    def recording(self) -> bool:
        """False while a step is left out."""
        return self.gate.recording

    @property
    def faults(self) -> list[str]:
        """What was lost, and why."""
        return self.boundary.faults

    def start(self) -> None:
        """Install hooks and patches. A second call does nothing."""
        global _active
        if _active is self or self._closed:
            return
        if _active is not None:
            raise RuntimeError(f"{_active.name} is active in this process already; close it first")
        _active = self
        self.boundary.run("start", self._install)
        self.gate.awake = True

    def close(self) -> None:
        """Give out what is left, close the sink, remove every hook and patch. A second call does nothing."""
        global _active
        if _active is not self:
            return
        _active = None
        self._closed = True
        try:
            self.boundary.run("close", self._finish)
            self.gate.awake = False
            self.output.close()
        finally:
            self.gate.awake = False
            self.boundary.run("remove", self._remove)

    def end_step(self) -> None:
        """The step ends exactly here. From the first call on, steps are no longer found automatically."""
        self._step_source = "manual"
        if self.gate.awake and not self.passes_on():
            self.boundary.run("step", self.end_window)

    def record_now(self) -> None:
        """Record this step although it was to be left out: something rare follows that is worth its cost.

        Only between two steps, when nothing of the step that begins has happened.
        """
        self._tell_left_out()
        self._asks_at = self.step
        self.gate.recording, self.gate.fed = True, False

    def tell(self, role: str, api: str, subject: str, args: Mapping[str, Value], out: Mapping[str, Value]) -> None:
        """Record a moment that is no call of torch: what a framework's own loop says of itself."""
        call = self.open(role, api, subject, dict(args))
        if call is not None:
            call.out = dict(out)
            self.finish(call)

    def watch(self, *items: Module | Optimizer) -> None:
        """Make models and optimizers known that were built before the session started."""
        for item in items:
            if isinstance(item, Module):
                self.boundary.run("watch", self.models.add, item)
            else:
                self.boundary.run("watch", self.models.add_optimizer, item)
                self.steps.optimizer_exists = True

    def sleep(self) -> None:
        """Record nothing more in this process: a worker that loads data does not train."""
        self.gate.awake = False
        self.functions.remove()

    # What hooks use.

    def wants(self, key: str) -> bool:
        """Whether calls of this role, or functions without one, are recorded."""
        found = self._wanted.get(key)
        if found is None:
            places = () if self.plan.needs is None else self.plan.needs.snapshots
            found = self._wanted[key] = self.plan.wants_call(key) or any(place[0] == key for place in places)
        return found

    def open(self, role: str, api: str, subject: str, args: dict[str, Value] | None = None) -> OpenCall | None:
        """Begin a call, if its role is wanted and the step is not left out."""
        if not self.recording or not self.wants(role or api):
            return None
        call = self.calls.open(role, api, subject, self.contexts.now(), {} if args is None else args)
        if role and role not in NOWHERE:
            site = self.sites.innermost()
            if site:
                call.args["site"] = site
        return call

    def answer(
        self, details: Sequence[str], hook: str, question: Callable[..., dict[str, Value]], *args: Any
    ) -> dict[str, Value]:
        """What the question says of these details of a call, where anybody reads one of them."""
        if not self.plan.wants_detail(*details):
            return {}
        return self.boundary.run(hook, question, *args) or {}

    def finish(self, call: OpenCall | None, error: BaseException | None = None) -> None:
        """End a call."""
        if call is not None:
            self.calls.close(call, "" if error is None else type(error).__name__)

    def activity(self) -> None:
        """Training happens in this process: its sink is opened."""
        self.output.activity()

    def automatic(self) -> bool:
        """Whether steps are found rather than told."""
        return self._step_source == "auto"

    def walk(self) -> None:
        """Walk the models, once per step, so that what follows has names."""
        if self.recording and (self.models.stale or not self._walked):
            self._walked = True
            self.boundary.run("variables", self.models.refresh)

    def describe(self) -> None:
        """Walk the models, and give out the table of variables when it changed."""
        if self.recording:
            self._walked = self._described = True
            self.boundary.run("variables", self._describe)

    def _describe_once(self) -> None:
        if not self._described:
            self.describe()

    def _describe(self) -> None:
        self.models.refresh()
        variables = self.table.changed()
        if variables is not None:
            self.output.emit(VariableTable(self.calls.next_seq(), variables))

    def passes_on(self) -> bool:
        """End this step, if it and the next one are left out; this happens at almost every step of a fast program."""
        if self.gate.recording or self.step + 1 >= self._asks_at:
            return False
        self.step += 1
        self._untold += 1
        self.steps.window_closed()
        return True

    def end_window(self) -> None:
        """Close the window of this step and begin the next."""
        if self.passes_on():
            return
        self._tell_left_out()
        if self.recording:
            self._describe_once()
            self.calls.emit_open()
        try:
            self.output.emit(StepEnd(self.calls.next_seq(), self.step, self.recording))
        finally:
            self._begin_window()

    def _begin_window(self) -> None:
        self.step += 1
        self.steps.window_closed()
        self.functions.window_closed()
        self._walked = self._described = False
        self.frozen_seen = False
        self.clipped.clear()
        self._decide()

    def _decide(self) -> None:
        self._asks_at = self.decide(self.step)
        self.gate.recording, self.gate.fed = self._asks_at == self.step, False

    def _tell_left_out(self) -> None:
        untold, self._untold = self._untold, 0
        for step in range(self.step - untold, self.step):
            self.output.emit(StepEnd(self.calls.next_seq(), step, recorded=False))

    def emit(self, record: Record) -> None:
        """Give out a record."""
        self.output.emit(record)

    # Start, end, and children.

    def _install(self) -> None:
        self._decide()
        self.functions = ProjectFunctions(self, self._project or project_directory())
        # Looking through everything that is alive takes most of the time of a start: it is done once.
        living = alive(Module, Optimizer)
        modules = [item for item in living if isinstance(item, Module)]
        self.models.install(modules)
        self._undo = [self.models.remove, self.ties.install(self.boundary), self.patches.undo, self.functions.remove]
        self._undo += install_hooks(self)
        self.patches.rebind(modules)
        self.steps.optimizer_exists = len(modules) < len(living)
        self.functions.install()
        _watch_forks()
        atexit.register(self.close)
        self._undo.append(lambda: atexit.unregister(self.close))
        multiprocessing_util.register_after_fork(self, _finalize_in_child)

    def _finish(self) -> None:
        self._tell_left_out()
        self._describe_once()
        self.calls.emit_open()

    def _remove(self) -> None:
        for undo in reversed(self._undo):
            self.boundary.run(f"remove {undo!r}", undo)
        self._undo = []


def _itself(step: int) -> int:
    return step


def _finalize_in_child(session: Session) -> None:
    """Children made by ``multiprocessing`` leave without running ``atexit``."""
    multiprocessing_util.Finalize(None, session.close, exitpriority=0)


def _reset_in_child() -> None:
    """A forked child records as a process of its own, and writes only if it trains."""
    if _active is not None:
        _active._begin_process()


@functools.cache
def _watch_forks() -> None:
    os.register_at_fork(after_in_child=_reset_in_child)
