"""What a run records: calls, snapshots of variables, the table of variables, and the ends of steps.

These are the values that every room shares. The recorder makes them, a trace stores them, a window groups them. Nobody
changes one. Calls and snapshots are not frozen only because Python takes several times as long to make one that is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from traincheck.values import Value


@dataclass(frozen=True, slots=True)
class Context:
    """The paper's *meta variables* that change within a process. The recorder interns them."""

    stage: str = "init"
    """One of :data:`traincheck.vocabulary.STAGES`."""
    micro_step: int = 0
    """Backward passes already completed in this step."""
    grad_enabled: bool = True
    autocast: str = ""
    """The dtype of the active autocast region (``"bfloat16"``), or ``""``."""


@dataclass(slots=True)
class Call:
    """An API call, from entry to exit."""

    seq: int
    """Position of the entry in the order of everything recorded by this process; also the call's id."""
    end: int
    """Position of the exit in the same order; ``-1`` while the call is still open."""
    parent: int
    """``seq`` of the innermost enclosing recorded call of the same thread, or ``-1``."""
    role: str
    """The part it plays (:mod:`traincheck.vocabulary`), or ``""`` for a function of the user's project."""
    api: str
    """Its concrete dotted name, such as ``torch.optim.adamw.AdamW.step``."""
    subject: str
    """What it was called on: an optimizer, model, layer, loader or scheduler by its label (``AdamW``, ``Net.fc1``)."""
    context: Context
    args: Mapping[str, Value] = field(default_factory=dict)
    out: Mapping[str, Value] = field(default_factory=dict)
    error: str = ""
    """Class name of the exception that ended it, or ``""``."""
    thread: int = 0
    """0 for the main thread, then in order of appearance."""
    time_ns: int = 0
    duration_ns: int = 0


@dataclass(slots=True)
class Snapshot:
    """The content of all variables of one kind at one moment: at the border of a call."""

    seq: int
    call: int
    """``seq`` of the call at whose border it was taken."""
    point: str
    """``before`` or ``after`` that call."""
    kind: str
    """One of :data:`traincheck.vocabulary.VARIABLE_KINDS`."""
    names: tuple[str, ...]
    """The variables, by name. A gradient has the name of its parameter."""
    hashes: tuple[int | None, ...]
    """A 64-bit fingerprint of every element in order; ``None`` for a gradient that does not exist."""
    values: tuple[float | None, ...] = ()
    """For gradients the L2 norm, for scalars (learning rates) the value; empty where not recorded."""


@dataclass(frozen=True, slots=True)
class Variable:
    """What is known of one parameter or buffer beside its content."""

    name: str
    """Model label and path: ``Net.fc1.weight``; without any model ``SGD.group0.0``."""
    kind: str
    """``param`` or ``buffer``."""
    shape: tuple[int, ...]
    dtype: str
    trainable: bool
    """``requires_grad``."""
    optimizer: str
    """Label of the optimizer that holds it, or ``""``."""
    group: str
    """Label of the parameter group that holds it (``AdamW.group0``), as in snapshots of learning rates, or ``""``."""
    in_model: bool
    """Whether a living module still registers it."""
    module: str
    """Class of the module that registers it (``Linear``), or ``""``."""
    training: bool
    """The ``training`` flag of that module."""
    tied: str
    """Name of the first variable that shares its storage, or ``""``."""
    placement: str = "local"
    """Over the ranks: ``local`` (one process or unknown), ``replicated``, ``sharded``, or ``copied``: its content
    is replicated, but each rank may hold a summand or a shard of its gradient until it is applied."""
    replicas: tuple[int, ...] = ()
    """The ranks, this one among them, that hold the same content. Empty: all of a replicated one, none of a shard."""


@dataclass(frozen=True, slots=True)
class VariableTable:
    """All variables of the process, as of ``seq``; recorded again whenever one of them changes its description."""

    seq: int
    variables: tuple[Variable, ...]


@dataclass(frozen=True, slots=True)
class StepEnd:
    """The end of a window."""

    seq: int
    step: int
    """Number of the step that ended, from 0."""
    recorded: bool = True
    """False when the overhead budget left this step out: nothing of it can be judged."""


Record: TypeAlias = "Call | Snapshot | VariableTable | StepEnd"


@dataclass(frozen=True, slots=True)
class Process:
    """Facts about the process that hold for its whole trace."""

    rank: int = 0
    world_size: int = 1
    pid: int = 0
    framework: str = "pytorch"
    """Which loop drives the training: ``pytorch``, ``transformers``, ``lightning``, ``deepspeed``, ``accelerate``."""
    versions: Mapping[str, str] = field(default_factory=dict)
