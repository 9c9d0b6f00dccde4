"""A model that is trained is evaluated in evaluation mode: without dropout, without its batches in its statistics."""

from __future__ import annotations

from collections.abc import Iterator

from traincheck.events import Call
from traincheck.relations.argument import Argument
from traincheck.relations.contract import Example
from traincheck.vocabulary import BUFFER, DROPOUT, FORWARD
from traincheck.window import Window


def evaluated_in(window: Window, subject: Argument) -> Iterator[Example]:
    """Over data that is not trained on, without gradients, in training mode: ``model.eval()`` was forgotten.

    A model in evaluation mode some of whose layers are not (Monte-Carlo dropout) means it.
    """
    trained = {name.partition(".")[0] for name, variable in window.variables.items() if variable.optimizer}
    for model in window.named(FORWARD):
        if model.context.stage == "eval" and not model.context.grad_enabled and model.subject in trained:
            yield from (_dropout if subject.call == DROPOUT else _statistics)(window, model)


def _dropout(window: Window, model: Call) -> Iterator[Example]:
    calls = [call for call in window.inside(model, DROPOUT) if call.args.get("p")]
    on = [call for call in calls if call.args.get("active")]
    if on and model.args.get("training") is True:
        seen = f"{len(on)} of {len(calls)} dropout calls of a forward pass are active; the model is in training mode"
        yield Example(False, (), (model.subject,), "a model in evaluation mode", seen, model.api)
    elif calls and not on:
        yield Example(True, ())


def _statistics(window: Window, model: Call) -> Iterator[Example]:
    changes = window.changes(model, BUFFER) or {}
    changed = [name for name, moved in changes.items() if moved]
    if changed and model.args.get("training") is True:
        seen = f"the model is in training mode, and its batches change {len(changed)} buffers, {changed[0]} first"
        yield Example(False, (), (model.subject,), "a model in evaluation mode", seen, model.api)
    elif changes and model.args.get("training") is False:
        yield Example(True, ())
