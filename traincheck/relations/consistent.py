"""Two values of one variable are equal: across ranks, steps, the names that share it, or a master and its copy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Final, Literal

from traincheck.events import Variable
from traincheck.relations import around_evaluation, circumstances
from traincheck.relations.contract import Example, Memory, Needs
from traincheck.relations.habits import (
    MOVED_ALIKE,
    UNKNOWN,
    Tables,
    moved_by_equal_gradients,
    placed_by_habit,
    placed_by_matrices,
)
from traincheck.values import Fields
from traincheck.vocabulary import (
    AFTER,
    BEFORE,
    CHECKPOINT_SAVE,
    FORWARD,
    GRAD,
    LR,
    OPTIMIZER_STEP,
    PARAM,
    PLURAL,
    ROUNDED,
)
from traincheck.window import PEERS, Window, content

Across = Literal["ranks", "steps", "names", "copies"]


@dataclass(frozen=True, slots=True)
class Equal:
    """Variables of ``kind`` are equal across ``across``."""

    kind: str
    across: Across


PLACES: Final[dict[str, str]] = {PARAM: AFTER, GRAD: AFTER, LR: BEFORE}
"""Where a kind is compared across ranks: at this border of the optimizer step."""

SUBJECTS: Final = (
    Equal(PARAM, "ranks"),
    Equal(GRAD, "ranks"),
    Equal(LR, "ranks"),
    Equal(PARAM, "steps"),
    Equal(PARAM, "names"),
    Equal(PARAM, "copies"),
)


class Consistent:
    """Jiang et al., OSDI 2025, table 2; equality over fingerprints that see every element."""

    name: ClassVar[str] = "Consistent"
    subject_type: ClassVar[type] = Equal
    implied_by: ClassVar[dict[str, tuple[str, ...]]] = {}

    def propose(self, window: Window) -> Iterable[Equal]:
        if OPTIMIZER_STEP not in window.keys:
            return ()
        return SUBJECTS if window.process.world_size > 1 else SUBJECTS[3:]

    def needs(self, subject: Equal) -> Needs:
        calls = frozenset({OPTIMIZER_STEP})
        if subject.across == "ranks":
            kinds = {PARAM: (PARAM, GRAD)}.get(subject.kind, (subject.kind,))
            return Needs(calls, frozenset((OPTIMIZER_STEP, PLACES[kind], kind) for kind in kinds), norms=False)
        if subject.across == "copies":
            return Needs(calls, frozenset({(OPTIMIZER_STEP, BEFORE, PARAM), (OPTIMIZER_STEP, BEFORE, ROUNDED)}))
        if subject.across == "steps":
            calls |= {FORWARD, CHECKPOINT_SAVE, *around_evaluation.LOADS}
        return Needs(calls, frozenset({(OPTIMIZER_STEP, BEFORE, PARAM), (OPTIMIZER_STEP, AFTER, PARAM)}))

    def triggers(self, subject: Equal) -> frozenset[str]:
        return frozenset({PEERS} if subject.across == "ranks" else ())

    def examples(self, subject: Equal, window: Window, memory: Memory) -> Iterable[Example]:
        if subject.across == "ranks":
            return _across_ranks(subject.kind, window, memory)
        if subject.across == "steps":
            return around_evaluation.examples(window, memory)
        if subject.across == "copies":
            return _across_copies(window, memory)
        return _across_names(window, memory)

    def describe(self, subject: Equal) -> str:
        if subject.across == "ranks":
            return f"{PLURAL[subject.kind]} are equal on all ranks at each optimizer step"
        if subject.across == "steps":
            return "an evaluation or a checkpoint leaves the parameters as the last optimizer step made them"
        if subject.across == "copies":
            return "before an optimizer step, a parameter of low precision equals its master weight, rounded"
        return "parameters that share one tensor under several names stay one tensor"


Values = dict[int, "int | float | None"]
"""The content of one variable on some ranks, by rank."""


def _across_ranks(kind: str, window: Window, memory: Memory) -> Iterator[Example]:
    if len(window.peers) < 2:
        return
    held_by_rank = {peer.process.rank: _at_steps(peer, kind) for peer in window.peers}
    names = dict.fromkeys(name for held in held_by_rank.values() for name in held)
    tables = _tables(window, memory)
    layout = _layout(kind, tables, memory)
    by_habit = placed_by_habit(held_by_rank, names, memory)
    gradients = [_at_steps(peer, GRAD) for peer in window.peers] if kind == PARAM else []
    equal_gradients = moved_by_equal_gradients(gradients, memory) if gradients else frozenset()
    equal: Counter[Fields] = Counter()
    unequal: dict[Fields, dict[str, Values]] = {}
    for name in names:
        for said, trainable, ranks in layout(name):
            values = {rank: held_by_rank[rank][name] for rank in ranks if name in held_by_rank[rank]}
            if len(values) < 2:
                continue
            place, alike = said or by_habit(name), len(set(values.values())) == 1
            if kind == PARAM and place == UNKNOWN and not alike:
                matrices = placed_by_matrices(name, tables, by_habit, memory)
                place = MOVED_ALIKE if name in equal_gradients else matrices
            context = _context(place, trainable)
            if alike:
                equal[context] += 1
            else:
                unequal.setdefault(context, {}).setdefault(name, values)
    for context, count in equal.items():
        yield Example(True, context, count=count)
    for context, members in unequal.items():
        first, values = next(iter(members.items()))
        expected = f"the same {PLURAL[kind]} on ranks {', '.join(map(str, values))}"
        yield Example(False, context, tuple(members), expected, _odd_ones_out(first, values), count=len(members))


@lru_cache(maxsize=64)
def _context(placement: str, trainable: bool) -> Fields:
    return circumstances.frozen({"placement": placement, "trainable": trainable})


def _at_steps(window: Window, kind: str) -> dict[str, int | float | None]:
    found: dict[str, int | float | None] = {}
    # ZeroRedundancyOptimizer hands the parameters round after the step of the optimizer that it wraps.
    for step in sorted(circumstances.optimizer_steps(window), key=lambda step: step.end):
        snapshot = window.snapshot(step, PLACES[kind], kind)
        if snapshot is not None:
            found.update(content(snapshot))
    return found


Group = tuple[str, bool, tuple[int, ...]]
"""How the ranks of a group hold a variable (empty: nobody says), whether it is trained, and the ranks."""


def _tables(window: Window, memory: Memory) -> Tables:
    """What each rank knows of its variables: the same object until a rank's table changes."""
    now = {peer.process.rank: peer.variables for peer in window.peers}
    before: Tables = memory.state.get("tables", {})
    if before.keys() == now.keys() and all(before[rank] is table for rank, table in now.items()):
        return before
    memory.state["tables"] = now
    return now


def _layout(kind: str, tables: Tables, memory: Memory) -> Callable[[str], list[Group]]:
    """The groups of ranks among which a variable can be compared; worked out anew when a rank's table changes."""
    known: dict[str, list[Group]] = memory.state.get("layout", {})
    if memory.state.get("layout of") is not tables:
        known = {}
        memory.state.update({"layout": known, "layout of": tables})

    def groups(name: str) -> list[Group]:
        if name not in known:
            known[name] = list(_groups(kind, {rank: table.get(name) for rank, table in tables.items()}))
        return known[name]

    return groups


def _groups(kind: str, variables: Mapping[int, Variable | None]) -> Iterator[Group]:
    """Each rank says with which others it shares a content. A shard of which nobody says that is compared with all."""
    known = {rank: variable for rank, variable in variables.items() if variable is not None}
    trainable = any(variable.trainable for variable in known.values())
    placements = {variable.placement for variable in known.values()}
    shared = {variable.replicas for variable in known.values() if variable.replicas}
    if kind == GRAD and "copied" in placements:
        return
    for ranks in sorted(shared):
        yield "replicated", trainable, tuple(rank for rank in ranks if rank in known and known[rank].replicas == ranks)
    if not shared:
        said = "sharded" if "sharded" in placements else "replicated" if placements == {"replicated"} else ""
        yield said, trainable, tuple(variables)


def _odd_ones_out(name: str, values: Values) -> str:
    usual, count = Counter(values.values()).most_common(1)[0]
    if count * 2 > len(values):
        odd = ", ".join(str(rank) for rank, value in values.items() if value != usual)
        return f"{name} on rank {odd} differs from the {count} other ranks"
    return f"{name} differs between ranks {', '.join(map(str, values))}"


def _across_names(window: Window, memory: Memory) -> Iterator[Example]:
    """A tie counts as broken when it is so in two windows on end: loading may part names for a moment."""
    tied: dict[str, str] = memory.state.setdefault("tied", {})
    now = {name: variable.tied for name, variable in window.variables.items() if variable.kind == PARAM}
    apart = {name for name, first in tied.items() if name in now and first in now and now[name] != first}
    broken = tuple(name for name in tied if name in apart & memory.state.get("apart", set()))
    kept = sum(1 for name in tied if name in now) - len(apart)
    memory.state["apart"] = apart
    tied.update({name: first for name, first in now.items() if first})
    if broken:
        seen = f"{', '.join(f'{name} is no longer {tied[name]}' for name in broken[:3])}"
        yield Example(False, (), broken, "one tensor under all its names", seen, count=len(broken))
    elif kept:
        yield Example(True, (), count=kept)


def _across_copies(window: Window, memory: Memory) -> Iterator[Example]:
    """A parameter and a master weight are a pair once they were equal, and equal to nothing else, in two contents."""
    equal: dict[tuple[str, str], set[object]] = memory.state.setdefault("equal", {})
    for step in circumstances.optimizer_steps(window):
        rounded, held = window.snapshot(step, BEFORE, ROUNDED), window.snapshot(step, BEFORE, PARAM)
        if rounded is None or held is None:
            continue
        masters = content(rounded)
        copies = {name: value for name, value in content(held).items() if _in_low_precision(window, name)}
        pairs = [pair for pair, contents in equal.items() if len(contents) > 1 and _both_known(pair, masters, copies)]
        stale = tuple(copy for master, copy in pairs if masters[master] != copies[copy])
        for pair in _only_equals(masters, copies):
            equal.setdefault(pair, set()).add(masters[pair[0]])
        if stale:
            seen = (
                f"{len(stale)} of {len(pairs)} parameters are no longer their master weights, rounded: "
                "the step will overwrite them with what the master weights hold"
            )
            expected = "the parameters and their master weights changed together"
            yield Example(False, (), stale, expected, seen, step.api, len(stale))
        elif pairs:
            yield Example(True, (), count=len(pairs))


def _both_known(pair: tuple[str, str], masters: Mapping[str, object], copies: Mapping[str, object]) -> bool:
    return pair[0] in masters and pair[1] in copies


def _in_low_precision(window: Window, name: str) -> bool:
    variable = window.variables.get(name)
    return variable is not None and variable.in_model and variable.dtype in circumstances.LOW_PRECISION


def _only_equals(
    masters: Mapping[str, int | float | None], copies: Mapping[str, int | float | None]
) -> Iterator[tuple[str, str]]:
    """Masters and copies with the same content, where no other has it."""
    often = Counter(masters.values()) + Counter(copies.values())
    named = {value: name for name, value in copies.items()}
    for master, value in masters.items():
        if value is not None and value in named and often[value] == 2:
            yield master, named[value]
