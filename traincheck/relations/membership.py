"""One set of things is part of another: what an optimizer holds and what is trained, what ran and what was tracked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Final

from traincheck.events import Call, Variable
from traincheck.relations import circumstances, own_optimizers
from traincheck.relations.contract import Example, Memory, Needs
from traincheck.vocabulary import AFTER, BACKWARD, FORWARD, GRAD, MODULE_FORWARD, OPTIMIZER_STEP, PARAM
from traincheck.window import Window


@dataclass(frozen=True, slots=True)
class Part:
    """Everything in the set ``part`` is in the set ``whole``."""

    part: str
    whole: str


WORDS: Final[dict[str, str]] = {
    "held": "parameters that an optimizer holds",
    "alive": "parameters that a model still has or that get a gradient",
    "reached": "parameters that get a gradient",
    "trainable": "trainable parameters",
    "first_layers": "first layers of models whose later layers learn",
    "layers_reached": "layers that get a gradient",
    "layers_run": "layers with trained parameters that run in training",
    "layers_tracked": "layers that run with gradient tracking",
    "fed_model": "parameters of a model that another one feeds and that has an optimizer of its own",
    "held_alone": "parameters that no optimizer of the other one holds",
}

SUBJECTS: Final = (
    Part("held", "alive"),
    Part("held", "trainable"),
    Part("held", "reached"),
    Part("reached", "held"),
    Part("layers_run", "layers_tracked"),
    Part("first_layers", "layers_reached"),
    Part("fed_model", "held_alone"),
)


class Membership:
    """Ours: identity of optimizer and model parameters (accelerate issue 2665, pytorch issue 12603)."""

    name: ClassVar[str] = "Membership"
    subject_type: ClassVar[type] = Part
    implied_by: ClassVar[dict[str, tuple[str, ...]]] = {}

    def propose(self, window: Window) -> Iterable[Part]:
        return SUBJECTS if OPTIMIZER_STEP in window.keys else ()

    def needs(self, subject: Part) -> Needs:
        if subject.part == "first_layers":
            places = {(OPTIMIZER_STEP, AFTER, GRAD)}
            return Needs(frozenset({OPTIMIZER_STEP, BACKWARD, FORWARD, MODULE_FORWARD}), frozenset(places))
        if subject.part == "layers_run":
            return Needs(frozenset({OPTIMIZER_STEP, BACKWARD, MODULE_FORWARD}))
        if subject.part == "fed_model":
            return Needs(frozenset({OPTIMIZER_STEP, FORWARD}), frozenset({(OPTIMIZER_STEP, AFTER, GRAD)}))
        places = {(OPTIMIZER_STEP, AFTER, PARAM), (OPTIMIZER_STEP, AFTER, GRAD)}
        return Needs(frozenset({OPTIMIZER_STEP}), frozenset(places))

    def triggers(self, subject: Part) -> frozenset[str]:
        return frozenset({OPTIMIZER_STEP})

    def examples(self, subject: Part, window: Window, memory: Memory) -> Iterable[Example]:
        steps = circumstances.optimizer_steps(window)
        if not steps:
            return ()
        if subject.part == "layers_run":
            return _layers(window, {step.subject for step in steps})
        if subject.part == "first_layers":
            return _first_layers(window, steps)
        if subject.part == "fed_model":
            return own_optimizers.examples(window)
        return _parameters(subject, window, steps, memory)

    def describe(self, subject: Part) -> str:
        return f"the {WORDS[subject.part]} are among the {WORDS[subject.whole]}"


def _parameters(subject: Part, window: Window, steps: list[Call], memory: Memory) -> Iterator[Example]:
    sizes = [circumstances.gradients(window, step) or {} for step in steps]
    reached = {name for found in sizes for name, size in found.items() if size != "none"}
    stepped = {step.subject for step in steps}
    ever: set[str] = memory.state.setdefault("ever", set())
    ever |= reached
    variables = window.variables.values()
    mates = {known.name.partition(".")[0] for known in variables if known.optimizer in stepped}
    groups: dict[tuple[bool, bool, bool], list[str]] = {}
    inside = 0
    for name, variable in window.variables.items():
        steps_here = subject.part != "held" or variable.optimizer in stepped
        if variable.kind != PARAM or not steps_here or not _in(subject.part, variable, reached, ever):
            continue
        held = _in(subject.whole, variable, reached, ever)
        inside += held
        groups.setdefault((variable.trainable, name.partition(".")[0] in mates, held), []).append(name)
    for (trainable, model_in_optimizer, held), names in groups.items():
        context = circumstances.frozen({"trainable": trainable, "model_in_optimizer": model_in_optimizer})
        if held:
            yield Example(True, context, count=len(names))
        else:
            expected = f"all {WORDS[subject.part]} to be {WORDS[subject.whole]}"
            seen = f"{len(names)} of {inside + len(names)} are not"
            if subject.part == "held":
                seen += _left_out(window, stepped)
            yield Example(False, context, tuple(names), expected, seen, steps[0].api, len(names))


def _left_out(window: Window, stepped: set[str]) -> str:
    """What no optimizer holds of the models that these train: what they hold instead was often meant to be that."""
    variables = window.variables.values()
    models = {known.name.partition(".")[0] for known in variables if known.optimizer in stepped and known.in_model}
    trainable = (known for known in variables if known.kind == PARAM and known.trainable and not known.optimizer)
    names = [known.name for known in trainable if known.name.partition(".")[0] in models and not known.tied]
    if not names:
        return ""
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"; no optimizer holds {names[0]}{more}, which should train"


def _in(group: str, variable: Variable, reached: set[str], ever: set[str]) -> bool:
    if group == "held":
        return variable.optimizer != ""
    if group == "alive":
        return variable.in_model or variable.name in ever
    if group == "reached":
        return variable.name in reached
    return variable.trainable


def _layers(window: Window, stepped: set[str]) -> Iterator[Example]:
    owners: dict[str, Variable] = {}
    for variable in window.variables.values():
        if variable.kind == PARAM and variable.trainable and variable.optimizer in stepped:
            owners.setdefault(variable.name.rpartition(".")[0], variable)
    tracked: dict[str, bool] = {}
    apis: dict[str, str] = {}
    for call in window.named(MODULE_FORWARD):
        evaluates = not call.context.grad_enabled and call.args.get("training") is False
        if call.subject in owners and call.context.stage == "train" and call.end >= 0 and not evaluates:
            good = call.out.get("requires_grad") is True or call.args.get("recompute") is True
            tracked[call.subject] = tracked.get(call.subject, False) or good
            apis.setdefault(call.subject, call.api)
    missing = tuple(layer for layer, good in tracked.items() if not good)
    context = circumstances.frozen({"distributed": window.process.world_size > 1})
    if missing:
        seen = f"{len(missing)} of {len(tracked)} layers ran only without gradient tracking, so they cannot learn"
        expected = "an output that carries gradients"
        yield Example(False, context, missing, expected, seen, apis[missing[0]], len(missing))
    elif tracked:
        yield Example(True, context, count=len(tracked))


def _first_layers(window: Window, steps: list[Call]) -> Iterator[Example]:
    """A layer that runs first feeds the later ones: when they learn and it does not, something was cut in between."""
    sizes: dict[str, str] = {}
    for step in steps:
        sizes |= circumstances.gradients(window, step) or {}
    reached: dict[str, bool] = {}
    for name, size in sizes.items():
        variable = window.variables.get(name)
        if variable is None or (size == "none" and variable.placement == "sharded"):
            continue  # where parameters are sharded, this rank may hold nothing of it
        if variable.trainable and variable.in_model:
            layer = name.rpartition(".")[0]
            reached[layer] = reached.get(layer, False) or size != "none"
    ran: dict[str, list[str]] = {}
    # A program may call the parts of its model one by one: then the head is called on its own.
    for call in sorted(window.named(FORWARD) + window.named(MODULE_FORWARD), key=lambda call: call.seq):
        learns = call.context.grad_enabled and call.context.stage == "train" and call.subject in reached
        layers = ran.setdefault(call.subject.partition(".")[0], [])
        if learns and call.subject not in layers:
            layers.append(call.subject)
    for layers in ran.values():
        first, later = layers[:1], layers[1:]
        if not any(reached[layer] for layer in later):
            continue
        if reached[first[0]]:
            yield Example(True, ())
            continue
        silent = tuple(layer for layer in layers if not reached[layer])
        seen = f"{len(silent)} of {len(layers)} layers that ran got none, among them the first"
        yield Example(
            False, (), silent, "a gradient for the layers that feed those which learn", seen, count=len(silent)
        )
