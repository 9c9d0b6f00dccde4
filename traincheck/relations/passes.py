"""A pass over shuffled data begins with another batch than the pass before, be it with a new loader."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from traincheck.events import Call
from traincheck.relations import circumstances
from traincheck.relations.contract import Example, Memory
from traincheck.values import Value
from traincheck.vocabulary import DATA_NEXT, OPTIMIZER_STEP
from traincheck.window import Window

MAX_KEYS: Final = 4096
"""So many loaders and trainings are told apart."""


class _Begun(NamedTuple):
    """How a pass over the data began."""

    step: int
    loader: str
    batch: Value


def context(window: Window, call: Call) -> dict[str, Value]:
    """What surrounds the fetch of a batch."""
    batches, index = call.args.get("batches"), call.args.get("index")
    several = batches > 1 if isinstance(batches, int) else True if index else None
    return circumstances.of_call(window, call) | {"several_batches": several}


def examples(window: Window, memory: Memory) -> Iterator[Example]:
    """One for each pass that a training begins anew."""
    last: dict[tuple[Value, ...], _Begun] = memory.state
    stepped = tuple(sorted({step.subject for step in window.named(OPTIMIZER_STEP)}))
    for call in window.named(DATA_NEXT):
        batch = call.out.get("hash")
        if batch is None or call.args.get("index") != 0:
            continue
        begun = _Begun(window.step, call.subject, batch)
        keys = [_by_loader(call), *([_by_training(call, stepped)] if stepped else [])]
        before = [known for known in map(last.get, keys) if known is not None and _went_before(known, begun)]
        last.update({key: begun for key in keys if len(last) < MAX_KEYS or key in last})
        if before and window.follows and call.context.stage == "train":
            yield _example(window, call, begun, before)


def _by_loader(call: Call) -> tuple[Value, ...]:
    return (call.subject, call.api, call.context.stage, call.context.grad_enabled)


def _by_training(call: Call, stepped: tuple[str, ...]) -> tuple[Value, ...]:
    """As many batches of the same size for the same optimizers: a loader that was built anew, with the same data.

    A training that is begun anew, with the same seed on purpose, has an optimizer of its own.
    """
    args = call.args
    return (stepped, call.context.stage, args.get("shuffled"), args.get("batches"), args.get("batch_size"))


def _went_before(known: _Begun, begun: _Begun) -> bool:
    """Whether that pass was earlier. Two loaders that are read side by side may have one order on purpose."""
    return known.step < begun.step or known.loader == begun.loader


def _example(window: Window, call: Call, begun: _Begun, before: list[_Begun]) -> Example:
    surroundings = circumstances.frozen(context(window, call) | {"shuffled": call.args.get("shuffled")})
    same = next((known for known in before if known.batch == begun.batch), None)
    if same is None:
        return Example(True, surroundings)
    seen = "exactly the same again"
    if same.loader != begun.loader:
        seen += f", from {begun.loader} as from {same.loader}"
    return Example(False, surroundings, (call.subject or call.api,), "something new", seen, call.api)
