"""An argument is constant, steady, equal to another, distinct from the last, or the same or distinct across ranks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar, Final

from traincheck.events import Call
from traincheck.relations import circumstances, passes, periods, target_weights
from traincheck.relations.argument import WORDS, Argument, How, context_of, example_of
from traincheck.relations.argument_across_ranks import across_ranks, inputs_apart
from traincheck.relations.argument_over_time import kept_on, lasting, over_time
from traincheck.relations.argument_told import TOLD
from traincheck.relations.contract import Example, Memory, Needs
from traincheck.relations.evaluated import evaluated_in
from traincheck.values import same
from traincheck.vocabulary import (
    AFTER,
    ATTENTION,
    BACKWARD,
    BEFORE,
    BUFFER,
    COLLECTIVE,
    COLLECTIVES,
    DATA_NEXT,
    DETAILS,
    DROPOUT,
    EVERY_LAYER,
    FORWARD,
    GRAD_CLIP,
    LOSS,
    LR_STEP,
    MODE_EVAL,
    MODE_TRAIN,
    MODULE_FORWARD,
    OPTIMIZER_LOAD,
    OPTIMIZER_STEP,
    SPECTRAL_NORM,
    TARGET_WEIGHT,
    TRAINER_STEP,
    ZERO_GRAD,
    one,
)
from traincheck.window import PEERS, Window

TABLE: Final[tuple[tuple[str, str, tuple[How, ...], str], ...]] = (
    (FORWARD, "training", ("steady", "off in evaluation"), ""),
    (FORWARD, "through_wrapper", ("true",), ""),
    (FORWARD, "size", ("same on ranks",), ""),
    (FORWARD, "eos_dropped", ("false",), ""),
    (FORWARD, "pad_counted", ("false",), ""),
    (FORWARD, "labels_shifted", ("false",), ""),
    (FORWARD, "mask_inverted", ("false",), ""),
    (FORWARD, "awake", ("false",), ""),
    (FORWARD, "inputs", ("distinct", "apart on ranks"), ""),
    (MODULE_FORWARD, "training", ("steady",), ""),
    (DROPOUT, "p", ("steady",), ""),
    (DROPOUT, "active", ("true", "false", "steady", "off in evaluation"), ""),
    (ATTENTION, "active", ("false", "steady"), ""),
    (ATTENTION, "dropout_p", ("steady",), ""),
    (ATTENTION, "causal", ("steady",), ""),
    (LOSS, "input_dtype", ("steady",), ""),
    (LOSS, "input_size", ("equal",), "target_size"),
    (SPECTRAL_NORM, "aligned", ("true",), ""),
    (BACKWARD, TARGET_WEIGHT, ("same in step",), ""),
    (BACKWARD, "probabilities", ("false",), ""),
    (BACKWARD, "all_pairs", ("false",), ""),
    (BACKWARD, "divided_twice", ("false",), ""),
    (DATA_NEXT, "hash", ("distinct", "distinct on ranks"), ""),
    (DATA_NEXT, "first hash", ("distinct",), ""),
    (GRAD_CLIP, "max_norm", ("same on ranks",), ""),
    (GRAD_CLIP, "tensors", ("same on ranks",), ""),
    (GRAD_CLIP, "again", ("false",), ""),
    (GRAD_CLIP, "blind", ("false",), ""),
    (LR_STEP, "orphaned", ("false",), ""),
    (LR_STEP, "begun_anew", ("false",), ""),
    (LR_STEP, "period", ("long enough",), ""),
    (ZERO_GRAD, "set_to_none", ("steady",), ""),
    (OPTIMIZER_STEP, "lr", ("same on ranks", "lasting"), ""),
    (OPTIMIZER_STEP, "freezing_ignored", ("false",), ""),
    (OPTIMIZER_STEP, "left_out", ("false",), ""),
    (OPTIMIZER_STEP, "passed_over", ("false",), ""),
    (OPTIMIZER_STEP, "carried", ("false",), ""),
    (OPTIMIZER_STEP, "untied", ("false",), ""),
)
"""``(role, argument, hows, other argument)``. What a program may choose freely is only ever *steady*, if that."""

COLLECTIVE_ARGUMENTS: Final = ("name", "numel", "op", "dtype")
"""What must agree in the n-th collective of a group: which it is, of how much, and what it does."""

RATES: Final = ("p", "dropout_p", "active")
"""What says how much dropout there is. It may change on purpose; that it stops in the middle is what must not be."""


class APIArg:
    """Jiang et al., OSDI 2025, table 2."""

    name: ClassVar[str] = "APIArg"
    subject_type: ClassVar[type] = Argument
    implied_by: ClassVar[dict[str, tuple[str, ...]]] = {"steady": ("true", "false")}

    def propose(self, window: Window) -> Iterator[Argument]:
        for call, argument, hows, other in TABLE:
            if call in window.keys:
                for how in hows:
                    if window.process.world_size > 1 or not how.endswith("ranks"):
                        yield Argument(call, argument, how, other)
        if any(key.startswith(COLLECTIVE) for key in window.keys):
            for argument in COLLECTIVE_ARGUMENTS:
                yield Argument(COLLECTIVE, argument, "same on ranks")

    def needs(self, subject: Argument) -> Needs:
        if subject.how == "off in evaluation":
            places = frozenset({(FORWARD, BEFORE, BUFFER), (FORWARD, AFTER, BUFFER)} if subject.call == FORWARD else ())
            return Needs(frozenset({subject.call, FORWARD, OPTIMIZER_STEP}), places)
        if subject.how == "lasting":
            return Needs(frozenset({subject.call, LR_STEP, TRAINER_STEP}))
        if subject.call == COLLECTIVE:
            return Needs(frozenset({OPTIMIZER_STEP, *COLLECTIVES}))
        if subject.how == "apart on ranks":
            return Needs(frozenset({subject.call}))
        details = frozenset({EVERY_LAYER} if subject.call == MODULE_FORWARD else {subject.argument} & DETAILS)
        return Needs(frozenset({subject.call, *ALSO.get(subject.argument, ())}), details=details)

    def triggers(self, subject: Argument) -> frozenset[str]:
        if subject.how.endswith("ranks"):
            return frozenset({PEERS})
        if subject.how == "off in evaluation":
            return frozenset({"eval"})
        if subject.how == "lasting":
            return frozenset({subject.call, LR_STEP})
        by_itself = subject.how in ("true", "false", "equal", "same in step")
        return frozenset({subject.argument if by_itself else subject.call})

    def examples(self, subject: Argument, window: Window, memory: Memory) -> Iterable[Example]:
        if subject.how == "apart on ranks":
            return inputs_apart(window, memory)
        if subject.how.endswith("ranks"):
            return across_ranks(subject, window)
        if subject.how == "off in evaluation":
            return evaluated_in(window, subject)
        if subject.argument == "period":
            return periods.examples(window)
        if subject.how == "lasting":
            return lasting(subject, window, memory)
        if subject.how == "steady" and subject.argument in RATES:
            return kept_on(subject, window, memory)
        if subject.argument == "first hash":
            return passes.examples(window, memory)
        if subject.how in ("steady", "distinct"):
            return over_time(subject, window, memory)
        if subject.how == "same in step":
            return target_weights.examples(window)
        return _through_wrapper(window) if subject.argument == "through_wrapper" else _here(subject, window)

    def describe(self, subject: Argument) -> str:
        argument, call = WORDS.get(subject.argument, subject.argument.replace("_", " ")), one(subject.call)
        if subject.argument in SENTENCES:
            return SENTENCES[subject.argument]
        if subject.how == "apart on ranks":
            return "ranks that train replicas of one model get inputs of their own"
        if subject.call == COLLECTIVE:
            return f"the n-th collective of a group of ranks has the same {argument} on all of them"
        if subject.how == "off in evaluation" and subject.call == FORWARD:
            return "a model that is trained, and keeps statistics of its batches, is evaluated in evaluation mode"
        if subject.how == "off in evaluation":
            return f"{call} is off while a model that is trained is evaluated"
        if subject.how == "steady" and subject.argument in RATES:
            return f"{call} is not switched off where it was on"
        what = {
            "true": "is true",
            "false": "is false",
            "steady": "stays what it was for the same object and stage",
            "same in step": "is the same all through a step",
            "equal": f"equals its {subject.other.replace('_', ' ')}",
            "distinct": "differs from the call before",
            "lasting": "does not stay at zero once a schedule has moved it",
            "same on ranks": "is the same on all ranks",
            "distinct on ranks": "differs between ranks",
        }[subject.how]
        return f"the {argument} of {call} {what}"


ALSO: Final[Mapping[str, tuple[str, ...]]] = {
    "through_wrapper": (BACKWARD, OPTIMIZER_STEP, *COLLECTIVES),
    TARGET_WEIGHT: (FORWARD, OPTIMIZER_STEP),
    "first hash": (OPTIMIZER_STEP,),
    "training": (FORWARD, BACKWARD, OPTIMIZER_STEP),
    "again": (ZERO_GRAD,),
    "awake": (MODE_TRAIN, MODE_EVAL),
    "begun_anew": (OPTIMIZER_LOAD,),
    "period": (DATA_NEXT,),
}
"""Calls that an argument is judged by, beside those that have it."""

SENTENCES: Final = {
    "through_wrapper": "a model is trained through its data-parallel wrapper",
    "first hash": "the first batch of a pass over the data differs from the first batch of the pass before",
    "aligned": "spectral normalisation divides by an iterated estimate of the norm, not by that of random vectors",
    "freezing_ignored": "a model that is configured to have frozen parts has some when training begins",
    "left_out": "layers that run in a model and get gradients are registered in it, or an optimizer holds them",
    "passed_over": "parameters of a trained model that get gradients, and are as they were built, are in an optimizer",
    "carried": "an optimizer applies no gradients that the loss of another optimizer left",
    "blind": "clipping is given parameters whose gradients it sees",
    "orphaned": "a schedule moves the learning rate of an optimizer that is in use",
    "begun_anew": "a training that goes on from a file with its optimizer goes on with its schedule too",
    "period": "an annealing of the learning rate takes longer than one pass over the data if it counts batches",
    "untied": "weights that were one parameter when the model was built are one when it is trained",
    "awake": "a frozen part that was put into evaluation mode stays in it",
    "labels_shifted": "labels for a model that shifts them itself are not shifted before",
    "mask_inverted": "a padding mask keeps the tokens, and leaves out what fills up rows",
    "pad_counted": "what fills up a row has no label",
    "again": "gradients that were clipped are applied before more is added to them",
    "eos_dropped": "a row that ends with the end-of-sequence token, and counts right before it, has a label there",
    "probabilities": "a loss that takes logits, or log-probabilities, is not given probabilities",
    "all_pairs": "a difference of predictions and targets has one number for each prediction",
    "divided_twice": "a mean loss is divided by the number of micro-batches once",
    TARGET_WEIGHT: "every target of a step weighs the same in the gradient, whichever micro-batch it is in",
}
"""Where the argument's name and what it is make no sentence."""


def _here(subject: Argument, window: Window) -> Iterator[Example]:
    for call in window.named(subject.call):
        value = call.args.get(subject.argument)
        if value is None:
            continue
        if subject.how == "equal":
            other = call.args.get(subject.other)
            if other is None:
                continue
            held, expected = same(value, other), f"{subject.argument} {other}, its {subject.other}"
        else:
            held, expected = value is (subject.how == "true"), f"{subject.argument} {subject.how}"
        seen = f"{subject.argument} {value}"
        context = context_of(window, call)
        if subject.argument in TOLD:
            context, expected, seen = TOLD[subject.argument](call)
        if subject.call in (DROPOUT, ATTENTION):
            del context["stage"], context["grad_enabled"]
            context["layer_training"] = call.args.get("layer_training")
        if subject.call == DROPOUT:
            context["has_dropout"] = bool(call.args.get("p"))
        yield example_of(held, context, call, expected, seen)


def _through_wrapper(window: Window) -> Iterator[Example]:
    """The forward that arms a data-parallel wrapper: the last one of a model before the backward of its own step."""
    for step in circumstances.optimizer_steps(window):
        backward = _last_before(window.named(BACKWARD), step)
        held = {name.partition(".")[0] for name, one in window.variables.items() if one.optimizer == step.subject}
        for model in sorted(held) if backward is not None else ():
            forwards = [call for call in window.named(FORWARD) if call.subject == model and call.context.grad_enabled]
            call = _last_before(forwards, backward or step)
            if call is None or not isinstance(call.args.get("through_wrapper"), bool):
                continue
            between = (one for one in window.calls if one.role.startswith(COLLECTIVE) and call.seq < one.seq < step.seq)
            context = context_of(window, call) | {"reduced_by_hand": any(between)}
            wrapper = call.args.get("wrapper")
            seen = f"{model} was called itself, past its {wrapper}, so no rank told the others its gradients"
            held_here = call.args["through_wrapper"] is True
            yield example_of(held_here, context, call, f"a forward pass through {wrapper}", seen)


def _last_before(calls: list[Call], later: Call) -> Call | None:
    return next((call for call in reversed(calls) if call.seq < later.seq), None)
