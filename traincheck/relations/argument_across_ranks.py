"""An argument across ranks: the same on all of them, or another on each."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from typing import Final

from traincheck.events import Call
from traincheck.relations import circumstances
from traincheck.relations.argument import WORDS, Argument, value_of
from traincheck.relations.contract import Example, Memory
from traincheck.values import Value
from traincheck.vocabulary import COLLECTIVE, FORWARD
from traincheck.window import Window


def across_ranks(subject: Argument, window: Window) -> Iterator[Example]:
    """The n-th call on one rank is compared with the n-th on the others; a call that a rank lacks counts as unequal.

    A rank that ended within the step is compared as far as it came. What ranks do between their last optimizer step
    and the next batch (waiting for others, the end of the run) they may do in windows that end elsewhere.
    """
    if len(window.peers) < 2:
        return
    ended = {peer.process.rank for peer in window.peers if peer.final}
    step_ends = {peer.process.rank: _step_end(subject, peer) for peer in window.peers}
    for by_rank in circumstances.calls_by_group(window, subject.call).values():
        inside = [sum(call.seq < step_ends[rank] for call in calls) for rank, calls in by_rank.items()]
        values = {rank: _values(subject, calls) for rank, calls in by_rank.items()}
        yield from _in_group(subject, values, ended, max(inside))


def _step_end(subject: Argument, window: Window) -> float:
    if subject.call != COLLECTIVE:
        return math.inf
    return max((step.end for step in circumstances.optimizer_steps(window)), default=math.inf)


def _in_group(
    subject: Argument, by_rank: Mapping[int, list[Value]], ended: Collection[int], in_step: int
) -> Iterator[Example]:
    """``in_step``: so many of the calls belong to the step, so that a rank which lacks one of them is told."""
    wants_same = subject.how == "same on ranks"
    # Of a collective each rank makes as many as the others; of other calls perhaps not.
    often = {len(values) for rank, values in by_rank.items() if rank not in ended}
    context = circumstances.frozen({} if subject.call == COLLECTIVE else {"calls_equal_often": len(often) < 2})
    compared = 0
    for position in range(max(map(len, by_rank.values()))):
        values = {
            rank: held[position] if position < len(held) else MISSING
            for rank, held in by_rank.items()
            if position < len(held) or (rank not in ended and position < in_step)
        }
        if len(values) < 2 or None in values.values() or (not wants_same and MISSING in values.values()):
            continue
        distinct = len({str(value) for value in values.values()})
        if distinct == 1 if wants_same else distinct == len(values):
            compared += 1
            continue
        names = tuple(f"rank {rank}" for rank in values)
        what = WORDS.get(subject.argument, subject.argument)
        expected = f"{what} {'equal' if wants_same else 'different'} on ranks {', '.join(map(str, values))}"
        seen = f"call {position + 1}: {circumstances.told_by_rank(values)}"
        yield Example(False, context, names, expected, seen, subject.call)
        return
    if compared:
        yield Example(True, context, count=compared)


def inputs_apart(window: Window, memory: Memory) -> Iterator[Example]:
    """Replicas that average their gradients get inputs of their own: else each rank does what the others do.

    Inputs that are the same in one step may happen (a batch that is filled up); inputs that are the same in each, and
    the same from step to step, may be meant (all the data at once, a test on one batch).
    """
    if len(window.peers) < 2:
        return
    by_rank = {peer.process.rank: _wrapped_inputs(peer) for peer in window.peers}
    before, memory.state["inputs"] = memory.state.get("inputs"), by_rank
    if not all(by_rank.values()):
        return
    if len(set(by_rank.values())) > 1:
        yield Example(True, ())
    elif before and window.follows and len(set(before.values())) == 1 and before != by_rank:
        ranks = ", ".join(map(str, by_rank))
        expected = f"inputs of their own on ranks {ranks}, from a DistributedSampler or a loader prepared for ranks"
        seen = f"exactly the same inputs on ranks {ranks}, in this step and in the one before"
        call = next(iter(_wrapped(window)))
        yield Example(False, (), (call.subject,), expected, seen, call.api)


def _wrapped_inputs(window: Window) -> tuple[Value, ...]:
    values = tuple(call.args.get("inputs") for call in _wrapped(window))
    return () if None in values else values


def _wrapped(window: Window) -> list[Call]:
    forwards = window.named(FORWARD)
    return [call for call in forwards if call.args.get("through_wrapper") is True and call.context.grad_enabled]


MISSING: Final = "none"
"""In place of the argument of a call that a rank did not make."""


def _values(subject: Argument, calls: list[Call]) -> list[Value]:
    """The argument of each call; where it cannot be compared, ``None``."""
    if subject.call == COLLECTIVE and subject.argument == "name":
        return [call.role.removeprefix(COLLECTIVE) for call in calls]
    if subject.call == COLLECTIVE:
        uneven = subject.argument == "numel"
        return [None if uneven and call.args.get("uneven") else call.args.get(subject.argument) for call in calls]
    values = (value_of(call, subject.argument) for call in calls)
    return [value for value in values if value is not None]
