"""A precondition: clauses over an example's context, in disjunctive form, that say when an invariant applies.

The clauses are the published ones (Jiang et al., OSDI 2025, section 3.4): *constant*, *consistent*, *unequal*, *exist*.
A context field whose value is a tuple speaks of several records (two ranks, two variables): *consistent* and *unequal*
compare them with each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from traincheck.values import Fields, Value, identity, same

Test: TypeAlias = Literal["constant", "consistent", "unequal", "exist"]

Context: TypeAlias = "Mapping[str, Value]"

MAX_CONJUNCTIONS: Final = 3
"""A disjunction of more parts than this describes the runs, not a law."""
NEGLIGIBLE: Final = 0.1
"""The share of passing weight that may stay uncovered."""


@dataclass(frozen=True, slots=True)
class Clause:
    """One condition on one context field."""

    field: str
    test: Test
    value: Value = None
    """For *constant*: what the field equals, on every record."""

    def holds(self, context: Mapping[str, Value]) -> bool:
        """Whether it is true in this context. A missing field makes every clause false."""
        if self.field not in context:
            return False
        value = context[self.field]
        records = value if isinstance(value, tuple) else (value,)
        if self.test == "constant":
            return all(same(record, self.value) for record in records)
        if self.test == "exist":
            return all(record is not None for record in records)
        distinct = {identity(record) for record in records}
        return len(distinct) == (1 if self.test == "consistent" else len(records))

    def __str__(self) -> str:
        if self.test == "constant":
            return _plain(self.field, self.value)
        verb = {"exist": "is known", "consistent": "is the same", "unequal": "differs"}[self.test]
        return f"the {self.field.replace('_', ' ')} {verb}"


PHRASES: Final[dict[str, tuple[str, str]]] = {
    "grad_enabled": ("gradients are tracked", "gradients are not tracked"),
    "autocast": ("autocast is on", "autocast is off"),
    "distributed": ("several processes train", "one process trains"),
    "loss_scaling": ("the loss is scaled", "the loss is not scaled"),
    "training": ("the model is in training mode", "the model is in evaluation mode"),
    "layer_training": ("the layer is in training mode", "the layer is in evaluation mode"),
    "trainable": ("the parameter is trainable", "the parameter is frozen"),
    "own": ("this optimizer holds the parameter", "this optimizer does not hold the parameter"),
    "in_optimizer": ("an optimizer holds the parameter", "no optimizer holds the parameter"),
    "in_model": ("a model has the parameter", "no model has the parameter"),
    "model_in_optimizer": ("the optimizer trains this model", "the optimizer does not train this model"),
    "low_precision": ("precision is low", "precision is full"),
    "empty": ("the tensor is empty", "the tensor is not empty"),
    "some_gradient": ("some of its parameters have a gradient", "none of its parameters has a gradient"),
    "some_lr": ("their learning rate is not negligible", "their learning rate is negligible"),
    "moves_by_habit": ("it always moves in between", "it does not usually move in between"),
    "has_dropout": ("there is dropout", "there is no dropout"),
    "pass_ended": ("a pass over the data ended", "no pass over the data ended"),
    "several_batches": ("there are several batches", "there is one batch"),
    "shuffled": ("the data are shuffled", "the data are not shuffled"),
    "last_batch": ("it is the last batch of a pass", "it is not the last batch of a pass"),
    "after_backward": ("a backward pass went before", "no backward pass went before"),
    "training_data": ("the data are for training", "the data are for evaluation"),
    "ignored_targets": ("some targets are ignored", "no target is ignored"),
    "trained": ("the model trains", "the model is evaluated"),
    "iterates": ("the power iteration runs", "the power iteration does not run"),
    "closure": ("the step takes a closure", "the step takes no closure"),
    "calls_equal_often": ("all ranks make as many calls", "ranks make different numbers of calls"),
}
"""How a sentence says that a yes-or-no field is true, and that it is false."""


def _plain(field: str, value: Value) -> str:
    if field in PHRASES and isinstance(value, bool):
        return PHRASES[field][not value]
    name = field.replace("_", " ")
    if value is None or value == "":
        return f"there is no {name}"
    if isinstance(value, bool):
        return f"{name} is {'on' if value else 'off'}"
    return f"the {name} is {value}"


Conjunction: TypeAlias = tuple[Clause, ...]


@dataclass(frozen=True, slots=True)
class Precondition:
    """Any of the conjunctions; ``Precondition(((),))`` holds always."""

    conjunctions: tuple[Conjunction, ...] = ((),)

    def holds(self, context: Mapping[str, Value]) -> bool:
        """Whether the invariant applies in this context."""
        return any(all(clause.holds(context) for clause in conjunction) for conjunction in self.conjunctions)

    @property
    def always(self) -> bool:
        """Whether there is no condition at all."""
        return () in self.conjunctions

    def __str__(self) -> str:
        if self.always:
            return ""
        return ", or ".join(" and ".join(map(str, conjunction)) for conjunction in self.conjunctions)


ALWAYS: Final = Precondition()


def find(passing: Mapping[Fields, int], failing: Sequence[Fields]) -> Precondition | None:
    """The weakest precondition found that holds on passing contexts, which have weights, and on no failing one.

    A conjunction over all passing contexts comes first. Where none separates, a few conjunctions cover most of their
    weight: what is left over is too rare to describe, and the invariant does not apply there. Passing contexts that
    also fail are given up. ``None`` when nothing separates.
    """
    refuted = set(failing)
    kept = [(dict(context), weight) for context, weight in passing.items() if context not in refuted]
    failures = [dict(context) for context in failing]  # in the set, True and 1 would be one
    if not kept:
        return None
    if not failures:
        return ALWAYS
    whole = _separate(_common([context for context, _ in kept]), failures)
    if whole is not None:
        return Precondition((whole,))
    return _split(kept, failures)


def _common(contexts: Sequence[Mapping[str, Value]]) -> list[Clause]:
    """Every clause that holds in all the contexts, the most specific tests first."""
    return [clause for clause in _clauses(contexts[0]) if all(clause.holds(context) for context in contexts)]


def _clauses(context: Mapping[str, Value]) -> Iterable[Clause]:
    for name, value in context.items():
        records = value if isinstance(value, tuple) else (value,)
        about_one = (Clause(name, "constant", records[0]), Clause(name, "exist")) if records else ()
        about_several = (Clause(name, "consistent"), Clause(name, "unequal")) if len(records) > 1 else ()
        yield from (clause for clause in (*about_one, *about_several) if clause.holds(context))


def _separate(candidates: Sequence[Clause], failures: Sequence[Mapping[str, Value]]) -> Conjunction | None:
    """A small conjunction of the candidates that is false in every failing context: greedy, then minimal."""
    chosen: list[Clause] = []
    left = list(failures)
    while left:
        best = max(candidates, key=lambda clause: sum(not clause.holds(context) for context in left), default=None)
        if best is None or all(best.holds(context) for context in left):
            return None
        chosen.append(best)
        left = [context for context in left if best.holds(context)]
    for clause in tuple(chosen):
        rest = [other for other in chosen if other is not clause]
        if rest and all(any(not other.holds(context) for other in rest) for context in failures):
            chosen = rest
    return tuple(sorted(chosen, key=lambda clause: (clause.field, clause.test)))


def _split(passing: Sequence[tuple[Context, int]], failures: Sequence[Context]) -> Precondition | None:
    """Several conjunctions: each grown from one uncovered passing context, the one that covers most weight first."""
    total = sum(weight for _, weight in passing)
    conjunctions: list[Conjunction] = []
    uncovered = list(passing)
    while sum(weight for _, weight in uncovered) > total * NEGLIGIBLE and len(conjunctions) < MAX_CONJUNCTIONS:
        grown = (_separate(list(_clauses(seed)), failures) for seed, _ in uncovered)
        candidates = [conjunction for conjunction in grown if conjunction is not None]
        if not candidates:
            break
        best = max(candidates, key=lambda conjunction: _weight(conjunction, uncovered))
        conjunctions.append(best)
        uncovered = [item for item in uncovered if not _covers(best, item[0])]
    return Precondition(tuple(sorted(conjunctions, key=str))) if conjunctions else None


def _weight(conjunction: Conjunction, contexts: Sequence[tuple[Context, int]]) -> int:
    return sum(weight for context, weight in contexts if _covers(conjunction, context))


def _covers(conjunction: Conjunction, context: Mapping[str, Value]) -> bool:
    return all(clause.holds(context) for clause in conjunction)
