"""Arguments that say by themselves whether something is as it should be: how what they say reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from traincheck.events import Call
from traincheck.values import Value

Told: TypeAlias = "tuple[dict[str, Value], str, str]"
"""The circumstances in which such an argument is judged, what was expected, and what was seen."""


def _aligned(call: Call) -> Told:
    return (
        {"iterates": call.args.get("iterates")},
        "a forward pass in training mode first: only there the power iteration runs",
        "the weight was divided by an estimate from vectors that are still random, so it is far too large",
    )


def _eos_dropped(call: Call) -> Told:
    return (
        {"trained": call.context.stage == "train"},
        "the label of the end-of-sequence token kept, so that the model learns to stop",
        f"{call.args.get('eos_lost')} of {call.args.get('eos_rows')} rows have no label at their end",
    )


def _freezing_ignored(call: Call) -> Told:
    return (
        {},
        "parameters that are frozen (requires_grad off) as the configuration asks",
        f"all parameters of {call.args.get('freezing')} have requires_grad on and get gradients: none is frozen",
    )


def _left_out(call: Call) -> Told:
    return (
        {},
        "layers in nn.ModuleList or nn.ModuleDict, so that the model's parameters() has them",
        f"{call.args.get('loose_layers')} ran and got gradients, but the model does not register them, no optimizer "
        "holds them, and their weights are what they were at the step before",
    )


def _passed_over(call: Call) -> Told:
    return (
        {},
        "every parameter that gets gradients in an optimizer, or frozen (requires_grad off)",
        f"{call.args.get('unheld')} got gradients, but no optimizer holds them, and they are what they were at the "
        "step before",
    )


def _carried(call: Call) -> Told:
    return (
        {},
        f"gradients that were cleared after the step of {call.args.get('carried_from')}, or never computed (detach)",
        f"{call.subject} applies what the backward pass before the step of {call.args.get('carried_from')} left in its "
        "parameters, added to the gradients of its own loss",
    )


def _again(call: Call) -> Told:
    return (
        {},
        "one clipping for each optimizer step, after the last backward pass of its accumulation",
        "gradients that had been scaled down were added to by another backward pass and clipped again, before any "
        "optimizer step applied them: earlier micro-batches count less than later ones",
    )


def _blind(call: Call) -> Told:
    return (
        {},
        "the parameters whose gradients are to be clipped",
        "not one gradient was seen: a generator of parameters that had run out already, or gradients that the "
        "framework keeps elsewhere; nothing is clipped",
    )


def _orphaned(call: Call) -> Told:
    return (
        {},
        "a schedule that was built with the optimizer that steps",
        f"{call.subject} moves the rate of an optimizer that steps no more; {call.args.get('successor')} has taken "
        "over its parameters, at a constant rate",
    )


def _begun_anew(call: Call) -> Told:
    return (
        {},
        f"a schedule that goes on from {call.args.get('on_file')}, as it is in the file",
        f"{call.subject} begins at 0; the optimizer's state was loaded",
    )


def _untied(call: Call) -> Told:
    return (
        {},
        "one parameter in both places",
        f"{call.args.get('untied_pair')} were one parameter when the model was built, and are trained as two",
    )


def _awake(call: Call) -> Told:
    return (
        {},
        "a frozen part in evaluation mode, as it was put into it",
        f"{call.args.get('awake_parts')} is frozen and was put into evaluation mode by itself; model.train() has put "
        "it back, so its dropout is active and its statistics follow the batches",
    )


def _pad_counted(call: Call) -> Told:
    return (
        {"trained": call.context.stage == "train"},
        "labels of -100 where the attention mask is 0",
        f"{call.args.get('pad_rows')} rows are filled up, and what fills them has labels: it counts in the loss",
    )


def _labels_shifted(call: Call) -> Told:
    return (
        {"trained": call.context.stage == "train"},
        "labels that are a copy of the input: the model compares each output with the label after it",
        "labels that are the input moved by one place, and that the model moves once more: it learns to name the token "
        "after the next",
    )


def _mask_inverted(call: Call) -> Told:
    return (
        {},
        "a mask that leaves out what only fills up rows",
        f"attention sees token {call.args.get('kept_token')} and nothing else; all other tokens, "
        f"{call.args.get('masked_tokens')} in this batch, are left out",
    )


def _probabilities(call: Call) -> Told:
    return (
        {},
        "logits as they leave the last layer: the loss takes their softmax or sigmoid itself",
        f"{call.args.get('probabilities_as')}: the loss cannot come near zero, and gradients are small",
    )


def _all_pairs(call: Call) -> Told:
    return (
        {},
        "predictions and targets of one shape",
        "a difference in which broadcasting compared every prediction with every target: "
        f"{call.args.get('all_pairs_as')}",
    )


def _divided_twice(call: Call) -> Told:
    return (
        {},
        "one division by the number of micro-batches: by the program or by its framework",
        f"a mean that was divided {call.args.get('divided_twice_as')}",
    )


TOLD: Final[Mapping[str, Callable[[Call], Told]]] = {
    "aligned": _aligned,
    "eos_dropped": _eos_dropped,
    "freezing_ignored": _freezing_ignored,
    "left_out": _left_out,
    "passed_over": _passed_over,
    "carried": _carried,
    "again": _again,
    "blind": _blind,
    "orphaned": _orphaned,
    "begun_anew": _begun_anew,
    "untied": _untied,
    "awake": _awake,
    "pad_counted": _pad_counted,
    "labels_shifted": _labels_shifted,
    "mask_inverted": _mask_inverted,
    "probabilities": _probabilities,
    "all_pairs": _all_pairs,
    "divided_twice": _divided_twice,
}
