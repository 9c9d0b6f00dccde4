"""An argument of calls, and what may be said of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from traincheck.events import Call
from traincheck.relations import circumstances, passes
from traincheck.relations.contract import Example
from traincheck.values import Value
from traincheck.vocabulary import DATA_NEXT
from traincheck.window import Window

How = Literal[
    "true",
    "false",
    "steady",
    "equal",
    "distinct",
    "lasting",
    "off in evaluation",
    "long enough",
    "same in step",
    "same on ranks",
    "distinct on ranks",
    "apart on ranks",
]


@dataclass(frozen=True, slots=True)
class Argument:
    """``argument`` of the calls of ``call`` is ``how`` (for *equal*: to ``other``)."""

    call: str
    argument: str
    how: How
    other: str = ""


WORDS: Final = {
    "hash": "content",
    "inputs": "input content",
    "training": "training flag",
    "active": "active flag",
    "p": "rate",
    "numel": "number of elements",
    "op": "operation",
    "tensors": "number of tensors",
}
"""How a sentence calls an argument, where its field name would not do."""


def context_of(window: Window, call: Call) -> dict[str, Value]:
    """The circumstances in which the arguments of a call are judged."""
    if call.role == DATA_NEXT:
        return passes.context(window, call)
    found = circumstances.of_call(window, call)
    if "recompute" in call.args:
        found["recompute"] = call.args["recompute"]
    return found


def value_of(call: Call, argument: str) -> Value:
    """The argument, or output, of that name."""
    return call.args.get(argument, call.out.get(argument))


def example_of(held: bool, surroundings: dict[str, Value], call: Call, expected: str, seen: str) -> Example:
    """What one call shows; where it did not hold, with what was expected and seen."""
    if held:
        return Example(True, circumstances.frozen(surroundings))
    return Example(False, circumstances.frozen(surroundings), (call.subject or call.api,), expected, seen, call.api)
