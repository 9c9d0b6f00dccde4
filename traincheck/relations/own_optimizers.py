"""A model that has an optimizer of its own is not trained by the optimizer of the model that feeds it.

A generator's loss runs through the discriminator, whose gradients are thrown away: an optimizer that holds both applies
them, against what the discriminator is trained for. Other overlaps may be meant: an encoder that several losses train
(it feeds and is not fed), an optimizer for a loss of its own beside those of each model (every model has one then).
"""

from __future__ import annotations

from collections.abc import Iterator

from traincheck.events import Call
from traincheck.relations import circumstances
from traincheck.relations.contract import Example
from traincheck.vocabulary import AFTER, FORWARD, GRAD, OPTIMIZER_STEP, PARAM
from traincheck.window import Window


def examples(window: Window) -> Iterator[Example]:
    """One for each optimizer whose loss runs through a model with another optimizer, where both step."""
    steps = circumstances.optimizer_steps(window)
    held = {step.subject: _held(window, step) for step in steps}
    if len(held) < 2:
        return
    whole = {label: _whole_models(window, names) for label, names in held.items()}
    for step in steps:
        others = {label: names for label, names in held.items() if label != step.subject}
        elsewhere = {_model(name) for names in others.values() for name in names}
        own = {_model(name) for name in held[step.subject]} - elsewhere
        fed = _fed_last(window, step, own)
        for label, names in others.items() if fed else ():
            if whole[label] == {fed}:
                yield from _judged(step, held[step.subject], label, names)


def _judged(step: Call, held: set[str], label: str, its_own: set[str]) -> Iterator[Example]:
    both = tuple(name for name in sorted(its_own) if name in held)
    if not both:
        yield Example(True, (), count=len(its_own))
    elif len(both) == len(its_own):
        expected = f"{label} alone to train the model that it holds"
        seen = f"{step.subject} holds the {len(both)} parameters of {label} as well, and both step"
        yield Example(False, (), both, expected, seen, step.api, len(both))


def _held(window: Window, step: Call) -> set[str]:
    snapshot = window.snapshot(step, AFTER, GRAD)
    return set() if snapshot is None else set(snapshot.names)


def _whole_models(window: Window, held: set[str]) -> set[str]:
    """The models that an optimizer trains; none where it does not hold all that trains in them."""
    models = {_model(name) for name in held}
    trained = {
        variable.name
        for variable in window.variables.values()
        if variable.kind == PARAM and variable.trainable and not variable.tied and _model(variable.name) in models
    }
    return models if trained <= held else set()


def _fed_last(window: Window, step: Call, own: set[str]) -> str:
    """The model that ran last before the step, on what one of ``own`` gave; empty when there is none.

    What a generator gave for the discriminator's step is often used again for its own.
    """
    since = max((other.end for other in window.named(OPTIMIZER_STEP) if 0 <= other.end < step.seq), default=-1)
    forwards = [call for call in window.named(FORWARD) if call.context.grad_enabled and -1 < call.end < step.seq]
    if not forwards or forwards[-1].seq < since or not forwards[-1].args.get("fed"):
        return ""
    ran = {_model(call.subject) for call in forwards[:-1]}
    return _model(forwards[-1].subject) if own & ran else ""


def _model(name: str) -> str:
    return name.partition(".")[0]
