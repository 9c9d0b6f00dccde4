"""What the steps so far say of variables of which nobody says how the ranks hold them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from traincheck.events import Variable
from traincheck.relations.contract import Memory
from traincheck.vocabulary import PARAM

EQUAL_AT_START: Final = "local but equal at start"
MOVED_ALIKE: Final = "local but moved alike"
UNKNOWN: Final = "local"
HABIT: Final = 3
"""So many times a variable must have been changed to the same on all ranks to be taken for a replicated one."""

Tables = Mapping[int, Mapping[str, Variable]]
"""What each rank knows of its variables."""


def placed_by_habit(
    held_by_rank: Mapping[int, Mapping[str, int | float | None]], names: Iterable[str], memory: Memory
) -> Callable[[str], str]:
    """What was equal on all ranks from the start, or moved alike there for some steps, counts as replicated."""
    started: dict[str, bool] = memory.state.setdefault("equal at start", {})
    alike: dict[str, tuple[object, int]] = memory.state.setdefault("moved alike", {})
    models: dict[str, bool] = {}
    known: dict[str, str] = {}
    for name in names:
        values = [held.get(name) for held in held_by_rank.values()]
        equal = all(name in held for held in held_by_rank.values()) and len(set(values)) == 1
        model = name.partition(".")[0]
        if model not in started and all(name in held for held in held_by_rank.values()):
            models[model] = models.get(model, True) and equal
        before, times = alike.get(name, (None, 0))
        known[name] = MOVED_ALIKE if times >= HABIT else UNKNOWN
        if times < HABIT and values[0] is not None:
            alike[name] = (values[0], times + (before not in (None, values[0])) if equal else 0)
    started.update(models)
    return lambda name: EQUAL_AT_START if started.get(name.partition(".")[0]) else known.get(name, UNKNOWN)


def moved_by_equal_gradients(gradients: Sequence[Mapping[str, int | float | None]], memory: Memory) -> frozenset[str]:
    """The variables to which all ranks apply the same gradient, and not always the same: they hold them in common.

    ``gradients``: of one step, by rank. What changes no more may be nothing but zeros.
    """
    known: dict[str, tuple[int | float | None, bool]] = memory.state.setdefault("equal gradients", {})
    first, *others = gradients
    for name, value in first.items():
        if value is None or any(held.get(name) != value for held in others):
            known[name] = (None, False)
        else:
            before, changed = known.get(name, (None, False))
            known[name] = (value, changed or before not in (None, value))
    return frozenset(name for name, (_, changed) in known.items() if changed)


def placed_by_matrices(name: str, tables: Tables, by_habit: Callable[[str], str], memory: Memory) -> str:
    """How the ranks hold a vector, such as the weight of a norm: as they hold the matrices around it.

    By itself it cannot be told from a shard: it starts from the same constant on each rank, and has moved differently
    since. It is taken for a replicated one where the trainer moves all the matrices around it alike.
    """
    around: dict[str, tuple[str, ...]] = memory.state.setdefault("around", {})
    if memory.state.get("around in") is not tables:
        around.clear()
        memory.state["around in"] = tables
    if name not in around:
        around[name] = _matrices_around(name, tables) if _follows_matrices(name, tables) else ()
    matrices = around[name]
    return MOVED_ALIKE if matrices and all(by_habit(matrix) == MOVED_ALIKE for matrix in matrices) else UNKNOWN


def _follows_matrices(name: str, tables: Tables) -> bool:
    """Whether it is a vector of a model that each rank trains: an optimizer holds it there."""
    return all(
        (variable := table.get(name)) is not None
        and variable.in_model
        and variable.trainable
        and variable.optimizer != ""
        and not _is_matrix(variable)
        for table in tables.values()
    )


def _matrices_around(name: str, tables: Tables) -> tuple[str, ...]:
    """The matrices of its own module, or else those of the module around that one, with all that is in there.

    None where something says how one of them is held: then what is said of the others, or left out, is meant.
    """
    matrices = {
        variable.name: variable.placement
        for table in tables.values()
        for variable in table.values()
        if variable.kind == PARAM and variable.in_model and _is_matrix(variable) and not variable.tied
    }
    own = _owner(name)
    beside = {other: place for other, place in matrices.items() if _owner(other) == own}
    if not beside:
        within = f"{_owner(own) or own}."
        beside = {other: place for other, place in matrices.items() if other.startswith(within)}
    return tuple(beside) if set(beside.values()) <= {UNKNOWN} else ()


def _owner(name: str) -> str:
    """The module of a parameter, or of a module."""
    return name.rpartition(".")[0]


def _is_matrix(variable: Variable) -> bool:
    return len(variable.shape) > 1
