"""An output follows from inputs, arguments or context: its dtype, its size, its finiteness, a bound, a count."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

from traincheck.events import Call
from traincheck.relations import circumstances
from traincheck.relations.contract import Example, Memory, Needs
from traincheck.values import Fields, Value, same
from traincheck.vocabulary import (
    AUTOCAST,
    BACKWARD,
    CHECKPOINT_LOAD,
    CHECKPOINT_SAVE,
    COLLECTIVE,
    DATA_NEXT,
    EVERY_LAYER,
    FORWARD,
    GRAD_CLIP,
    LOSS,
    MATMUL,
    MODULE_FORWARD,
    OPTIMIZER_LOAD,
    OPTIMIZER_STEP,
    OUTSIDE_AUTOCAST,
    TRAINER_BEGIN,
    TRAINER_END,
    TRAINER_LOAD,
    TRAINER_PREPARE,
    TRAINER_SAVE,
    TRAINER_STEP,
    one,
)
from traincheck.window import PEERS, Window

Form = Literal[
    "true",
    "zero",
    "not zero",
    "positive",
    "finite",
    "at most",
    "at least",
    "equals",
    "autocast dtype",
    "same on ranks",
    "any",
]

TABLE: Final[tuple[tuple[str, str, Form, str], ...]] = (
    (DATA_NEXT, "size", "equals", "batch_size"),
    (DATA_NEXT, "equal_workers", "zero", ""),
    (DATA_NEXT, "repeated_workers", "zero", ""),
    (FORWARD, "requires_grad", "true", ""),
    (FORWARD, "averaged_steps", "positive", ""),
    (MODULE_FORWARD, "requires_grad", "true", ""),
    (MATMUL, "dtype", "autocast dtype", ""),
    (MATMUL, "dtype", "equals", "input_dtype"),
    (LOSS, "dtype", "equals", "input_dtype"),
    (BACKWARD, "loss", "finite", ""),
    (GRAD_CLIP, "total_norm", "finite", ""),
    (GRAD_CLIP, "after_norm", "at most", "max_norm"),
    (GRAD_CLIP, "total_norm", "same on ranks", ""),
    (OPTIMIZER_STEP, "grads", "any", ""),
    (CHECKPOINT_SAVE, "missing", "zero", ""),
    (CHECKPOINT_SAVE, "unexpected", "zero", ""),
    (CHECKPOINT_LOAD, "missing", "zero", ""),
    (CHECKPOINT_LOAD, "unexpected", "zero", ""),
    (CHECKPOINT_LOAD, "differing", "zero", ""),
    (CHECKPOINT_LOAD, "matched", "positive", ""),
    (CHECKPOINT_LOAD, "aliased", "zero", ""),
    (OPTIMIZER_LOAD, "shared_storage", "zero", ""),
    (TRAINER_BEGIN, "frozen_adapters", "zero", ""),
    (TRAINER_BEGIN, "untied", "zero", ""),
    (TRAINER_PREPARE, "foreign", "zero", ""),
    (TRAINER_PREPARE, "unprepared", "zero", ""),
    (TRAINER_PREPARE, "changed", "zero", ""),
    (TRAINER_STEP, "micro_steps", "equals", "planned_micro_steps"),
    (TRAINER_STEP, "lr", "not zero", ""),
    (TRAINER_STEP, "schedule_unit", "equals", "schedule_interval"),
    (TRAINER_SAVE, "missing", "zero", ""),
    (TRAINER_SAVE, "differing", "zero", ""),
    (TRAINER_LOAD, "missing", "zero", ""),
    (TRAINER_LOAD, "differing", "zero", ""),
    (TRAINER_LOAD, "lost_optimizers", "zero", ""),
    (TRAINER_END, "steps", "equals", "planned_steps"),
    (TRAINER_END, "epochs", "at least", "planned_epochs"),
    (TRAINER_END, "schedule_steps", "equals", "steps"),
    (TRAINER_END, "final_lr", "zero", ""),
    (OPTIMIZER_LOAD, "misplaced", "zero", ""),
)
"""``(role, output, form, argument)``. ``any``: not ``none``."""

ALONE: Final = frozenset({"equal_workers", "repeated_workers", "averaged_steps", "misplaced", "shared_storage"})
"""Outputs that mean the same whatever surrounds the call."""

PLAIN_PRODUCTS: Final = ("matmul", "__matmul__", "bmm", "mm", "addmm", "einsum")
"""Products without weights of a layer: programs do these in full precision on purpose (rotary embeddings)."""

TOLERANCE: Final = 1.001
"""How far a clipped norm, or a fraction of an epoch, may lie beyond its bound through rounding."""

TOLD: Final = (
    *("training", "strict", "recompute", "closure", "input_dtype", "kind_of_weights"),
    *("stopped", "schedule", "first_step"),
)
"""Arguments that are circumstances."""

COUNTS: Final = ("micro_steps", "steps", "epochs", "schedule_steps")
"""Outputs that are what they are under any schedule."""


@dataclass(frozen=True, slots=True)
class Output:
    """``output`` of the calls of ``call`` has the ``form`` (for *at most* and *equals*: of ``argument``)."""

    call: str
    output: str
    form: Form
    argument: str = ""


MORE_CALLS: Final = {MODULE_FORWARD: (EVERY_LAYER,), MATMUL: (OUTSIDE_AUTOCAST,)}
"""Calls that are recorded only where somebody asks for all of that role."""


class APIOutput:
    """Jiang et al., OSDI 2025, table 2."""

    name: ClassVar[str] = "APIOutput"
    subject_type: ClassVar[type] = Output
    implied_by: ClassVar[dict[str, tuple[str, ...]]] = {}

    def propose(self, window: Window) -> Iterator[Output]:
        for call, output, form, argument in TABLE:
            if call in window.keys and (form != "same on ranks" or window.process.world_size > 1):
                yield Output(call, output, form, argument)
        if window.process.world_size > 1:
            for key in window.keys:
                if key.startswith(COLLECTIVE):
                    yield Output(key, "hash", "same on ranks")

    def needs(self, subject: Output) -> Needs:
        if subject.form == "autocast dtype":
            return Needs(frozenset({subject.call, AUTOCAST}))
        calls = {subject.call, BACKWARD} if subject.form == "any" else {subject.call}
        return Needs(frozenset(calls), details=frozenset(MORE_CALLS.get(subject.call, ())))

    def triggers(self, subject: Output) -> frozenset[str]:
        return frozenset({PEERS if subject.form == "same on ranks" else subject.output})

    def examples(self, subject: Output, window: Window, memory: Memory) -> Iterable[Example]:
        if subject.form == "same on ranks":
            yield from _across_ranks(subject, window)
            return
        for call in window.named(subject.call):
            value = call.out.get(subject.output, call.args.get(subject.output))
            if value is None or call.error or call.args.get("skipped"):
                continue
            if subject.form == "autocast dtype" and call.api.endswith(PLAIN_PRODUCTS):
                continue
            region = _region(window, call) if subject.form == "autocast dtype" else None
            if subject.form == "any" and _another_applied(window, call):
                continue
            judged = _judge(subject, call, value, region)
            if judged is None:
                continue
            held, expected = judged
            context = _context(subject, window, call)
            if held:
                yield Example(True, circumstances.frozen(context))
            else:
                name = call.subject or call.api
                yield Example(False, circumstances.frozen(context), (name,), expected, _seen(subject, call), call.api)

    def describe(self, subject: Output) -> str:
        output, call = subject.output.replace("_", " "), one(subject.call)
        if subject.form == "any":
            return f"{call} finds gradients to apply"
        what = {
            "true": "is true",
            "zero": "is zero",
            "not zero": "is not zero",
            "positive": "is at least one",
            "finite": "is finite",
            "at most": f"is at most its {subject.argument.replace('_', ' ')}",
            "at least": f"is at least its {subject.argument.replace('_', ' ')}",
            "equals": f"equals its {_argument_name(subject)}",
            "autocast dtype": "is the dtype of the enclosing autocast region",
            "same on ranks": "is the same on all ranks",
        }[subject.form]
        output = "result" if output == "hash" else output
        return f"the {WORDS.get((subject.call, subject.output), output)} of {call} {what}"


def _seen(subject: Output, call: Call) -> str:
    """The output, with the example that the recorder gives of it."""
    value, example = (
        call.out.get(subject.output, call.args.get(subject.output)),
        call.out.get(f"{subject.output}_example"),
    )
    named = WORDS.get((subject.call, subject.output), subject.output.replace("_", " "))
    return f"{named} {value}{f', for example {example}' if example else ''}"


def _argument_name(subject: Output) -> str:
    prefix = "input " if subject.argument == subject.output else ""
    return prefix + subject.argument.replace("_", " ")


WORDS: Final = {
    (CHECKPOINT_SAVE, "missing"): "number of the model's tensors missing in the result",
    (CHECKPOINT_SAVE, "unexpected"): "number of saved tensors that the model does not have",
    (CHECKPOINT_SAVE, "differing"): "number of saved tensors that differ from the live weights",
    (CHECKPOINT_LOAD, "missing"): "number of the model's tensors that were not given",
    (CHECKPOINT_LOAD, "unexpected"): "number of given tensors that the model does not have",
    (CHECKPOINT_LOAD, "differing"): "number of tensors that differ from the given ones afterwards",
    (CHECKPOINT_LOAD, "matched"): "number of tensors that found their place",
    (CHECKPOINT_LOAD, "aliased"): "number of tensors that the model was given of its own",
    (OPTIMIZER_LOAD, "shared_storage"): "number of state tensors shared with another optimizer",
    (OPTIMIZER_LOAD, "misplaced"): "number of state tensors that were saved for another parameter",
    (FORWARD, "averaged_steps"): "number of weights that went into the average (update_parameters)",
    (DATA_NEXT, "equal_workers"): "number of loader workers that start with the same random state as another one",
    (DATA_NEXT, "repeated_workers"): "number of loader workers that start with a random state of an earlier pass",
    (FORWARD, "requires_grad"): "gradient tracking of the output",
    (MODULE_FORWARD, "requires_grad"): "gradient tracking of the output",
    (BACKWARD, "loss"): "loss",
    (TRAINER_BEGIN, "frozen_adapters"): "number of frozen tensors in the active adapters",
    (TRAINER_BEGIN, "untied"): "number of weights that the configuration ties to others, and that are not tied",
    (TRAINER_PREPARE, "unprepared"): "number of the optimizer's parameters that are in no prepared model",
    (TRAINER_PREPARE, "foreign"): "number of the optimizer's parameters that the model does not have",
    (TRAINER_PREPARE, "changed"): "number of the layers' own attributes that are changed",
    (TRAINER_STEP, "micro_steps"): "number of backward passes",
    (TRAINER_STEP, "lr"): "learning rate",
    (TRAINER_STEP, "schedule_unit"): "unit that the learning-rate schedule is made for",
    (TRAINER_SAVE, "missing"): "number of the model's tensors missing on disk",
    (TRAINER_SAVE, "differing"): "number of tensors on disk that differ from the live weights",
    (TRAINER_LOAD, "lost_optimizers"): "number of optimizers whose state the checkpoint lacks",
    (TRAINER_LOAD, "missing"): "number of the model's tensors that the checkpoint lacks",
    (TRAINER_LOAD, "differing"): "number of live tensors that differ from the loaded checkpoint",
    (TRAINER_END, "steps"): "number of steps done",
    (TRAINER_END, "epochs"): "number of epochs done",
    (TRAINER_END, "schedule_steps"): "number of scheduler steps done",
    (TRAINER_END, "final_lr"): "learning rate that the schedule ends with",
}
"""How a sentence calls an output, where its field name would not do."""


def _judge(subject: Output, call: Call, value: Value, region: str | None) -> tuple[bool, str] | None:
    """Whether the output has the form, and what was expected; ``None`` where the question makes no sense."""
    match subject.form:
        case "true":
            return value is True, f"{subject.output} true"
        case "zero":
            return value == 0, f"{subject.output.replace('_', ' ')} 0"
        case "not zero":
            return value != 0, f"{subject.output} above 0"
        case "positive":
            return isinstance(value, int) and value > 0, f"{subject.output} at least 1"
        case "any":
            return value != "none", "at least one gradient"
        case "finite":
            return isinstance(value, (int, float)) and math.isfinite(value), f"a finite {subject.output}"
        case "at most" | "at least":
            bound = call.args.get(subject.argument)
            if not isinstance(bound, (int, float)) or not isinstance(value, (int, float)) or not math.isfinite(value):
                return None
            held = value <= bound * TOLERANCE if subject.form == "at most" else value * TOLERANCE >= bound
            return held, f"{subject.output} {subject.form} {bound}"
        case "equals":
            other = call.args.get(subject.argument)
            return None if other is None else (same(value, other), f"{subject.output} {other}")
        case "autocast dtype":
            return None if region is None else (value == region, f"{subject.output} {region}")
    return None


def _region(window: Window, call: Call) -> str | None:
    """The dtype of the outermost enabled autocast region around the call."""
    for outer in window.named(AUTOCAST):
        if outer.seq < call.seq and (outer.end < 0 or call.end < outer.end) and outer.args.get("enabled") is True:
            dtype = outer.args.get("dtype")
            return dtype if isinstance(dtype, str) else None
    return None


def _context(subject: Output, window: Window, call: Call) -> dict[str, Value]:
    if subject.output in ALONE:
        return {"training_data": call.context.stage == "train"} if subject.call == DATA_NEXT else {}
    context = circumstances.of_call(window, call)
    if subject.output == "dtype" and subject.form == "equals":
        context["autocast"] = call.context.autocast != ""
    for name in TOLD:
        if name in call.args and not (name == "schedule" and subject.output in COUNTS):
            context[name] = call.args[name]
    if subject.call == TRAINER_STEP:
        context["pass_ended"] = circumstances.pass_ended(window)
    if subject.call == DATA_NEXT:
        context["last_batch"] = _last_batch(call)
    if subject.form == "any":
        before = max((step.seq for step in window.named(call.role) if step.seq < call.seq), default=-1)
        context["after_backward"] = any(before < backward.seq < call.end for backward in window.named(BACKWARD))
    return context


def _another_applied(window: Window, call: Call) -> bool:
    """Whether another optimizer had gradients in this step: then one without any may be meant."""
    others = (step for step in window.named(call.role) if step.subject != call.subject)
    return any(step.out.get("grads") not in (None, "none") for step in others)


def _last_batch(call: Call) -> Value:
    batches, index = call.args.get("batches"), call.args.get("index")
    return index + 1 == batches if isinstance(batches, int) and isinstance(index, int) else None


def _across_ranks(subject: Output, window: Window) -> Iterator[Example]:
    if len(window.peers) < 2:
        return
    context = circumstances.frozen({"same_parameters": circumstances.same_parameters(window)})
    for calls in circumstances.calls_by_group(window, subject.call).values():
        by_rank = {rank: _outputs(subject, made) for rank, made in calls.items()}
        yield from _in_group(subject, by_rank, context)


def _in_group(subject: Output, by_rank: Mapping[int, list[Value]], context: Fields) -> Iterator[Example]:
    for position, values in enumerate(zip(*by_rank.values(), strict=False)):
        if len({str(value) for value in values}) > 1:
            ranks = ", ".join(map(str, by_rank))
            seen = f"call {position + 1}: {circumstances.told_by_rank(dict(zip(by_rank, values, strict=True)))}"
            names = tuple(f"rank {rank}" for rank in by_rank)
            yield Example(False, context, names, f"{subject.output} equal on ranks {ranks}", seen, subject.call)
            return
    if all(by_rank.values()):
        yield Example(True, context)


def _outputs(subject: Output, calls: list[Call]) -> list[Value]:
    values = (call.out.get(subject.output) for call in calls)
    return [value for value in values if value is not None]
