"""Each relation on small scripted steps: where it holds, where it does not, and what it says then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tests.engine.script import NAMES, Script, clean_run, parameter, side_by_side
from traincheck.events import Call, Context, Process, Snapshot, StepEnd, Variable, VariableTable
from traincheck.relations import Example, Memory, by_name
from traincheck.relations.api_output import Output
from traincheck.relations.api_sequence import Order
from traincheck.relations.argument import Argument
from traincheck.relations.cadence import Count
from traincheck.relations.consistent import Equal
from traincheck.relations.event_contain import Contain
from traincheck.relations.membership import Part
from traincheck.values import Value
from traincheck.vocabulary import (
    AUTOCAST,
    BACKWARD,
    BEFORE,
    CHECKPOINT_LOAD,
    DATA_NEXT,
    DROPOUT,
    FORWARD,
    GRAD,
    GRAD_CLIP,
    GRAD_UNSCALE,
    LOSS,
    LR_STEP,
    MODULE_FORWARD,
    OPTIMIZER_STEP,
    PARAM,
    PARAM_INIT,
    ROUNDED,
    SCALER_STEP,
    ZERO_GRAD,
)
from traincheck.window import Window


def examples(relation: str, subject: Any, windows: Sequence[Window]) -> list[Example]:
    memory = Memory()
    return [example for window in windows for example in by_name(relation).examples(subject, window, memory)]


def failures(relation: str, subject: Any, windows: Sequence[Window]) -> list[Example]:
    return [example for example in examples(relation, subject, windows) if not example.held]


def two_ranks(differ_at: int | None, placement: str = "replicated", steps: int = 4) -> list[Window]:
    """The windows of rank 0, each with its peer; from step ``differ_at`` on rank 1 has other weights."""
    variables = tuple(parameter(name, placement=placement) for name in NAMES)
    ranks = [Script(Process(rank=rank, world_size=2), variables=variables) for rank in range(2)]
    for step in range(steps):
        if differ_at is not None and step >= differ_at:
            ranks[1].params[NAMES[0]] += 1
        for script in ranks:
            script.step(moves=())
    return side_by_side(ranks)


def test_replicas_that_drift_apart_are_named_with_the_rank() -> None:
    found = failures("Consistent", Equal("param", "ranks"), two_ranks(differ_at=2))

    assert 2 == len(found)
    assert (NAMES[0],) == found[0].names
    assert "differs between ranks 0, 1" in found[0].seen


def test_what_replicas_share_by_habit_counts_only_if_the_whole_model_began_equal() -> None:
    placements = {
        dict(example.context)["placement"]
        for windows in (two_ranks(None, "local"), two_ranks(0, "local", steps=1), two_ranks(None, "sharded"))
        for example in examples("Consistent", Equal("param", "ranks"), windows)
    }

    assert {"local but equal at start", "local", "sharded"} == placements


def tied(name: str, first: str) -> Variable:
    return replace(parameter(name), tied=first)


def test_a_tie_is_broken_when_it_stays_so_for_two_steps() -> None:
    script = Script(variables=(parameter("Net.a.weight"), tied("Net.b.weight", "Net.a.weight")))
    script.step()
    script.records.append(VariableTable(next(script._seq), (parameter("Net.a.weight"), parameter("Net.b.weight"))))
    script.step()
    once = failures("Consistent", Equal("param", "names"), script.windows())
    script.step()
    twice = failures("Consistent", Equal("param", "names"), script.windows())

    assert [] == once
    assert [("Net.b.weight",)] == [example.names for example in twice]


def test_parameters_that_an_optimizer_holds_and_no_model_has() -> None:
    dead = parameter("Net.head.weight (replaced)", in_model=False)
    script = Script(variables=(*map(parameter, NAMES), dead))
    script.grads[dead.name] = None
    script.step()
    for window in script.windows():
        window.memo.update({("gradients", call.seq): {} for call in window.named(OPTIMIZER_STEP)})
        found = failures("Membership", Part("held", "alive"), [window])

        assert [(dead.name,)] == [example.names for example in found]


def layers(script: Script, tracked: Sequence[str], silent: Sequence[str]) -> None:
    """A step in which some layers run; those of ``silent`` get no gradient."""
    for name in (*silent, *tracked):
        with script.call(MODULE_FORWARD, f"Net.{name}", {"requires_grad": True}, training=True):
            pass
    script.step()


def test_first_layers_that_get_no_gradient_are_cut_off() -> None:
    script = Script()
    layers(script, tracked=["fc2"], silent=["fc1"])
    (window,) = script.windows()
    step = window.named(OPTIMIZER_STEP)[0]
    sizes = {name: "none" if ".fc1." in name else "normal" for name in NAMES}
    window.memo["gradients", step.seq] = sizes

    assert [("Net.fc1",)] == [e.names for e in failures("Membership", Part("first_layers", "layers_reached"), [window])]


def test_an_unused_last_layer_is_not_cut_off() -> None:
    script = Script()
    layers(script, tracked=[], silent=["fc1", "fc2"])
    (window,) = script.windows()
    step = window.named(OPTIMIZER_STEP)[0]
    window.memo["gradients", step.seq] = {name: "none" if ".fc2." in name else "normal" for name in NAMES}

    assert [] == failures("Membership", Part("first_layers", "layers_reached"), [window])


def test_a_gradient_of_zero_need_not_move_a_parameter() -> None:
    script = clean_run(steps=1)
    script.step(moves=NAMES[1:])
    window = script.windows()[1]
    step = window.named(OPTIMIZER_STEP)[0]
    subject = Contain(OPTIMIZER_STEP, "change:param", "every")
    before = failures("EventContain", subject, [script.windows()[1]])
    window.memo["gradients", step.seq] = {name: "zero" if name == NAMES[0] else "normal" for name in NAMES}

    assert [(NAMES[0],)] == [example.names for example in before]
    assert [] == failures("EventContain", subject, [window])


def test_a_scheduler_is_too_fast_only_when_it_is_so_twice_on_end() -> None:
    script = clean_run(steps=3)
    script.step(scheduler_steps=2)
    script.step()
    once = failures("Cadence", Count(LR_STEP, OPTIMIZER_STEP, "at most once"), script.windows())
    for _ in range(3):
        script.step(scheduler_steps=2)

    assert [] == once
    assert failures("Cadence", Count(LR_STEP, OPTIMIZER_STEP, "at most once"), script.windows())


def test_a_step_that_the_scaler_skipped_counts_for_the_scheduler() -> None:
    script = Script()
    for step in range(6):
        with script.call(SCALER_STEP, "GradScaler"):
            pass
        if step % 2:  # every other step overflows
            with script.call(OPTIMIZER_STEP, "SGD", {"grads": "all"}):
                pass
        with script.call(LR_STEP, "StepLR", in_init=False):
            pass
        script.end()

    assert [] == failures("Cadence", Count(LR_STEP, OPTIMIZER_STEP, "at most once"), script.windows())


def test_an_order_is_judged_only_in_programs_that_make_both_calls() -> None:
    subject = Order(ZERO_GRAD, OPTIMIZER_STEP, "between")
    never, once = Script(), Script()
    for step in range(5):
        never.step(zero_grad=False)
        once.step(zero_grad=step == 1)

    assert [] == examples("APISequence", subject, never.windows())
    assert [] != failures("APISequence", subject, once.windows())
    assert [] == examples("APISequence", Order(GRAD_CLIP, OPTIMIZER_STEP, "in step"), never.windows())


def accumulate(weights: Sequence[float], counted: Sequence[int], targets: int = 32) -> list[Window]:
    """One step over micro-batches with so many counted targets, each of such a weight."""
    script = Script()
    for weight, count in zip(weights, counted, strict=True):
        with script.call(FORWARD, "Net"):
            pass
        with script.call(BACKWARD, target_weight=weight, counted=count, targets=targets, classes=10):
            pass
    with script.call(OPTIMIZER_STEP, "SGD"):
        pass
    script.end()
    return script.windows()


def test_targets_weigh_the_same_in_all_micro_batches() -> None:
    subject = Argument(BACKWARD, "target_weight", "same in step")
    by_sum, by_mean = accumulate([1 / 30, 1 / 30], [10, 20]), accumulate([1 / 20, 1 / 40], [10, 20])

    assert [True] == [example.held for example in examples("APIArg", subject, by_sum)]
    assert "2.00 times" in failures("APIArg", subject, by_mean)[0].seen
    assert {"ignored_targets": True} == dict(failures("APIArg", subject, by_mean)[0].context)


def test_weights_that_differ_for_another_reason_are_not_judged() -> None:
    subject = Argument(BACKWARD, "target_weight", "same in step")
    two_tasks, full = accumulate([1.0, 0.3], [10, 20]), accumulate([1.0, 0.5], [20, 20])

    assert [] == examples("APIArg", subject, two_tasks) + examples("APIArg", subject, full)


def masters(*, loaded_at: int | None = None, rounded: bool = True, steps: int = 6) -> list[Window]:
    """A low-precision model whose master weights an optimizer steps; at some step only the model gets new weights."""
    script = Script(variables=(parameter("Net.weight", dtype="bfloat16", optimizer=""),))
    for step in range(steps):
        if step == loaded_at:
            script.params["Net.weight"] += 1
        with script.call(OPTIMIZER_STEP, "SGD") as call:
            script.look(call, BEFORE, PARAM)
            held = script.params["Net.weight"] - (step == loaded_at) if rounded else step
            names, contents = ("SGD.group0.0",), (held,)
            script.records.append(Snapshot(script.next_seq(), call, BEFORE, ROUNDED, names, contents))
        script.params["Net.weight"] += 10
        script.end()
    return script.windows()


def test_master_weights_are_stale_after_a_load_into_the_model_alone() -> None:
    subject = Equal("param", "copies")
    found = failures("Consistent", subject, masters(loaded_at=4))

    assert [("Net.weight",)] == [example.names for example in found]
    assert [] == failures("Consistent", subject, masters())
    assert [] == examples("Consistent", subject, masters(rounded=False))


def autocast_step(script: Script, *, enters: bool) -> None:
    if enters:
        with script.call(AUTOCAST, dtype="bfloat16", enabled=True):
            pass
    script.context = Context(stage="train", autocast="bfloat16")
    script.step()


def test_an_autocast_region_that_spans_steps_is_stale() -> None:
    subject = Order(AUTOCAST, FORWARD, "after a step")
    renewed, spanning = Script(), Script()
    for step in range(3):
        autocast_step(renewed, enters=True)
        autocast_step(spanning, enters=step == 0)

    assert [] == failures("APISequence", subject, renewed.windows())
    assert 2 == len(failures("APISequence", subject, spanning.windows()))


def load_and_init(initialised: int) -> list[Window]:
    """A load of six tensors, after which some of them are initialised again."""
    script = Script()
    with script.call(CHECKPOINT_LOAD, "Net", {"matched": 6}):
        pass
    for number in range(initialised):
        with script.call(PARAM_INIT, f"Net.layer{number}.weight", loaded=True):
            pass
    script.end()
    return script.windows()


def test_a_new_head_may_be_initialised_after_a_load_but_not_the_whole_model() -> None:
    subject = Order(CHECKPOINT_LOAD, PARAM_INIT, "ever")

    assert [] == failures("APISequence", subject, load_and_init(1))
    assert 5 == len(failures("APISequence", subject, load_and_init(5))[0].names)


def test_a_pass_that_begins_as_the_last_one_did() -> None:
    script = Script()
    for first in (11, 12, 12):
        with script.call(DATA_NEXT, "DataLoader", {"hash": first}, index=0, shuffled=True, batches=9):
            pass
        script.end()
    found = failures("APIArg", Argument(DATA_NEXT, "first hash", "distinct"), script.windows())

    assert ["exactly the same again"] == [example.seen for example in found]


def test_an_evaluation_may_see_the_same_batch_again() -> None:
    script = Script()
    script.context = Context(stage="eval", grad_enabled=False)
    for _ in range(3):
        with script.call(DATA_NEXT, "DataLoader", {"hash": 5}, index=0):
            pass
        script.end()

    assert [] == examples("APIArg", Argument(DATA_NEXT, "hash", "distinct"), script.windows())


def test_shapes_are_compared_with_their_types() -> None:
    script = Script()
    for target in ((8, 1), (8,)):
        with script.call(LOSS, input_size=(8, 1), target_size=target):
            pass
    script.end()
    found = examples("APIArg", Argument(LOSS, "input_size", "equal", "target_size"), script.windows())

    assert [True, False] == [example.held for example in found]


def test_dropout_is_judged_by_the_mode_of_its_layer() -> None:
    script = Script()
    for mode in (True, False):
        with script.call(DROPOUT, "Net.drop", p=0.5, active=True, layer_training=mode):
            pass
    script.end()
    found = examples("APIArg", Argument(DROPOUT, "active", "false"), script.windows())

    assert [True, False] == [dict(example.context)["layer_training"] for example in found]


def test_a_norm_above_its_bound_and_a_count_that_should_be_zero() -> None:
    script = Script()
    with script.call("grad.clip", "", {"after_norm": 1.5, "total_norm": 4.0}, max_norm=1.0):
        pass
    with script.call(CHECKPOINT_LOAD, "Net", {"aliased": 2, "matched": 6}):
        pass
    script.end()

    assert 1 == len(failures("APIOutput", Output("grad.clip", "after_norm", "at most", "max_norm"), script.windows()))
    assert 1 == len(failures("APIOutput", Output(CHECKPOINT_LOAD, "aliased", "zero"), script.windows()))


def test_containment_is_by_interval() -> None:
    script = Script()
    with script.call(FORWARD, "Net", training=False), script.call(DROPOUT, "Net.drop", p=0.5, active=True):
        pass
    script.end()
    calls: list[Call] = [call for window in script.windows() for call in window.calls]

    assert {-1} == {call.parent for call in calls}
    assert 1 == len(failures("EventContain", Contain(FORWARD, "active:dropout", "never"), script.windows()))


def test_a_module_may_use_several_dropout_rates_and_change_them_but_not_stop() -> None:
    steady = Argument(DROPOUT, "p", "steady")

    def run(*rates: float) -> list[bool]:
        script = Script()
        for rate in rates:
            for p in (0.3, rate):
                with script.call(DROPOUT, "Net", p=p):
                    pass
            script.end()
        return [example.held for example in examples("APIArg", steady, script.windows())]

    assert [True] * 4 == run(0.5, 0.5, 0.4)
    assert [True, True, True, False, True, True] == run(0.5, 0.5, 0.0, 0.0)


def schedule(*, first: int, before: bool, began_late: bool = False) -> list[bool]:
    """A schedule whose first step has the number ``first``, before or after the optimizer step of that step."""
    script = Script()
    if began_late:
        with script.call(OPTIMIZER_STEP, "SGD"):
            pass
    with script.call(LR_STEP, "StepLR", {"last_epoch": 0}, in_init=True):
        pass
    roles = [LR_STEP, OPTIMIZER_STEP] if before else [OPTIMIZER_STEP, LR_STEP]
    for step in range(2):
        for role in roles:
            with script.call(role, "StepLR", {"last_epoch": first + step}, in_init=False):
                pass
        script.end()
    order = Order(OPTIMIZER_STEP, LR_STEP, "at first")
    return [example.held for example in examples("APISequence", order, script.windows())]


def test_only_the_first_step_of_a_schedule_must_follow_an_optimizer_step() -> None:
    assert [True] == schedule(first=1, before=False)
    assert [False] == schedule(first=1, before=True)
    assert [False] == schedule(first=1, before=True, began_late=True)
    assert [] == schedule(first=7, before=True)  # resumed


def test_weights_may_change_in_training_but_not_around_an_evaluation() -> None:
    def run(*, evaluates: bool, habit: bool = False) -> list[bool]:
        script = clean_run(3)
        script.step()
        if habit:
            script.params[NAMES[0]] += 1
        script.step()
        if evaluates:
            script.evaluation()
        script.params[NAMES[0]] += 1
        script.step()
        found = failures("Consistent", Equal(PARAM, "steps"), script.windows())
        return [("moves_by_habit", True) in example.context for example in found]

    assert [] == run(evaluates=False)
    assert [False] == run(evaluates=True)
    assert [True] == run(evaluates=True, habit=True)


def steps_after(*roles: str, grads: Sequence[int | None] = (), loss: float = 1.0) -> list[bool]:
    """Steps with calls of ``roles`` between the backward pass and them; ``grads`` are what was left by then."""
    script = clean_run(2)
    for grad in grads:
        with script.call(BACKWARD, loss=loss) as call:
            script.look(call, BEFORE, GRAD)
        script.grads = {name: script.next_seq() for name in NAMES}
        script.look(call, "after", GRAD)
        for role in roles:
            with script.call(role, "SGD"):
                pass
        script.grads = dict.fromkeys(NAMES, script.next_seq() if grad else grad)
        with script.call(OPTIMIZER_STEP, "SGD") as call:
            pass
        norms = tuple(None if grad is None else float(grad) for _ in NAMES)
        snapshot = Snapshot(script.next_seq(), call, "after", GRAD, NAMES, tuple(script.grads.values()), norms)
        script.records.append(snapshot)
        script.end()
    found = examples("EventContain", Contain(OPTIMIZER_STEP, "use:grad", "some"), script.windows())
    return [example.held for example in found[2:]]


def test_gradients_are_not_cleared_between_the_backward_pass_and_the_step() -> None:
    assert [False, False] == steps_after(ZERO_GRAD, grads=(0, 0, 0))
    assert [False] == steps_after(ZERO_GRAD, grads=(None, None))
    assert [True, True, True] == steps_after(ZERO_GRAD, grads=(1, 1, 1))  # of another model, or put back by hand
    assert [True, True] == steps_after(ZERO_GRAD, grads=(1, 0, 1, 0))  # a bad batch now and then
    assert [] == steps_after(ZERO_GRAD, grads=(0, 0, 0), loss=float("nan"))
    assert [] == steps_after(LOSS, grads=(0, 0, 0))  # a loss that is zero


def passes(
    *loaders: str, reseeded: bool = True, optimizers: Sequence[str] = ("SGD", "SGD"), steps: bool = True
) -> list[bool]:
    """Two passes over shuffled data, each by the loaders that are named, side by side, or by one of its own."""
    script = Script()
    for number, optimizer in enumerate(optimizers):
        for loader in loaders or (f"DataLoader#{number}",):
            out: dict[str, Value] = {"hash": 5 if reseeded else 5 + number, "size": 8}
            facts: dict[str, Value] = {"shuffled": True, "batches": 4, "batch_size": 8}
            with script.call(DATA_NEXT, loader, out, index=0, **facts):
                pass
        if steps:
            with script.call(OPTIMIZER_STEP, optimizer):
                pass
        script.end()
    found = examples("APIArg", Argument(DATA_NEXT, "first hash", "distinct"), script.windows())
    assert all({("shuffled", True), ("several_batches", True)} <= set(example.context) for example in found)
    return [example.held for example in found]


def test_a_loader_that_is_built_for_each_epoch_does_not_begin_with_the_same_batch() -> None:
    assert [False] == passes()
    assert [False] == passes("DataLoader")
    assert [True] == passes(reseeded=False)


def test_the_same_order_may_be_meant() -> None:
    assert [] == passes(optimizers=("SGD", "SGD#2"))  # two trainings that are compared
    assert [] == passes("DataLoader", "DataLoader#2", optimizers=("SGD",))  # two views of each sample
    assert [] == passes(steps=False)  # a pass that measures something


G, D, E = ("G.0.weight",), ("D.0.weight", "D.1.weight"), ("E.0.weight",)


def trainings(*steps: tuple[str, Sequence[str], Sequence[str]]) -> list[bool]:
    """Optimizers that step in turn: each with what it holds, and the models that ran for it, fed from the second on."""
    holders: dict[str, str] = {}
    for optimizer, held, _ in steps:
        holders = dict.fromkeys(held, optimizer) | holders
    script = Script(variables=[parameter(name, optimizer=optimizer) for name, optimizer in holders.items()])
    for optimizer, held, models in steps:
        for place, model in enumerate(models):
            with script.call(FORWARD, model, fed=place > 0 or model == "D"):
                pass
        with script.call(OPTIMIZER_STEP, optimizer) as call:
            pass
        norms = tuple(1.0 for _ in held)
        script.records.append(
            Snapshot(script.next_seq(), call, "after", GRAD, tuple(held), tuple(map(hash, held)), norms)
        )
    script.end()
    return [example.held for example in examples("Membership", Part("fed_model", "held_alone"), script.windows())]


def test_the_optimizer_of_a_generator_does_not_hold_the_discriminator() -> None:
    discriminator = ("Adam", D, "D")
    assert [True] == trainings(discriminator, ("Adam#2", G, "GD"))
    assert [True] == trainings(("Adam", D, "GD"), ("Adam#2", G, "D"))  # what the generator gave is used again
    assert [False] == trainings(discriminator, ("Adam#2", G + D, "GD"))
    assert [False] == trainings(("Adam#2", G + D, "GD"), discriminator)


def test_several_optimizers_may_hold_one_model_on_purpose() -> None:
    assert [] == trainings(("Adam", E, "E"), ("Adam#2", E + G, "EG"))  # an encoder with two losses
    assert [] == trainings(("Adam", D, "D"), ("Adam#2", G, "GD"), ("Adam#3", G + D, "GD"))  # InfoGAN
    assert [] == trainings(("Adam", D, "D"), ("SGD", D, "D"))  # optimizers that alternate
    assert [] == trainings(("Adam", D[1:], "D"), ("Adam#2", G + D, "GD"))  # a layer with a rate of its own
    assert [] == trainings(("Adam", G + D, "GD"))  # after the other's phase


def after_an_evaluation(*events: str, habit: bool = False, told: bool = False, optimizer: str = "SGD") -> list[bool]:
    """Whether the weights were found to be what they were, after these events between two steps.

    ``average`` loads other weights, ``back`` loads those that were trained, ``best`` those of an earlier evaluation.
    """
    script = clean_run(3)
    script.step()
    if habit:
        script.load(dict.fromkeys(NAMES, 7))
        script.step()
    best = dict(script.params)
    script.evaluation()
    script.step()
    trained = dict(script.params)
    for event in events:
        if event == "evaluate":
            script.evaluation()
        else:
            script.load({"average": dict.fromkeys(NAMES, 8), "back": trained, "best": best}[event], told=told)
    if optimizer != "SGD":
        variables = tuple(parameter(name, optimizer=optimizer) for name in NAMES)
        script.records.append(VariableTable(script.next_seq(), variables))
    script.step(optimizer=optimizer)
    *earlier, last = script.windows()
    memory = Memory()
    for window in earlier:
        list(by_name("Consistent").examples(Equal(PARAM, "steps"), window, memory))
    found = by_name("Consistent").examples(Equal(PARAM, "steps"), last, memory)
    return [example.held for example in found if ("moves_by_habit", False) in example.context]


def test_an_average_that_is_loaded_for_an_evaluation_is_taken_out_again() -> None:
    assert [False] == after_an_evaluation("average", "evaluate")
    assert [] == after_an_evaluation("average", "evaluate", "back")
    assert [True] == after_an_evaluation("evaluate")


def test_weights_may_be_loaded_after_an_evaluation_or_to_go_back() -> None:
    assert [] == after_an_evaluation("evaluate", "average")  # to go on from other weights, as a resumed run does
    assert [] == after_an_evaluation("best", "evaluate")  # the best ones so far
    assert [] == after_an_evaluation("average", "evaluate", told=True)  # by a framework that was asked to
    assert [] == after_an_evaluation("average", "evaluate", habit=True)  # a program that does so in training too
    assert [] == after_an_evaluation("average", "evaluate", optimizer="Adam")  # a new training


def test_models_that_are_trained_alike_may_hand_each_other_weights() -> None:
    def run(other: str) -> list[bool]:
        names = (*NAMES, *(name.replace("Net", other) for name in NAMES))
        script = Script(variables=[parameter(name) for name in names])
        script.step()
        script.step()
        script.load(dict.fromkeys(NAMES, 8))
        script.evaluation()
        script.step()
        return [example.held for example in failures("Consistent", Equal(PARAM, "steps"), script.windows())]

    assert [] == run("Net#2")
    assert [False] == run("Net.more")


def test_a_program_may_go_back_to_weights_from_steps_that_were_left_out() -> None:
    script = clean_run(3)
    script.records[-1:] = [StepEnd(script.next_seq(), 99, recorded=False)]
    for _ in range(2):
        script.step()
        script.load(dict.fromkeys(NAMES, 8))
        script.evaluation()
    script.step()

    assert [] == failures("Consistent", Equal(PARAM, "steps"), script.windows())


def test_another_pace_counts_once_it_is_kept() -> None:
    def run(*backwards: int) -> list[int]:
        script = Script()
        for number in backwards:
            script.step(backwards=number)
        found = examples("Cadence", Count(BACKWARD, OPTIMIZER_STEP, "steady"), script.windows())
        return [place for place, example in enumerate(found) if not example.held]

    assert [] == run(4, 4, 4, 2, 4, 4, 1, 4)
    assert [2] == run(4, 4, 4, 1, 1, 1)


def test_what_comes_after_the_last_step_does_not_change_what_was_frozen_in_it() -> None:
    script = Script()
    script.step()
    with script.call(OPTIMIZER_STEP, "SGD") as call:
        script.look(call, BEFORE, PARAM)
    script.params[NAMES[0]] += 1
    script.look(call, "after", PARAM)
    script.records.append(VariableTable(script.next_seq(), (parameter("Merged.weight", trainable=False),)))
    windows = script.windows()

    assert windows[-1].final
    assert [] == examples("EventContain", Contain(OPTIMIZER_STEP, "change:param", "never"), windows)


def rates(*values: float) -> list[bool]:
    script = Script()
    for rate in values:
        with script.call(OPTIMIZER_STEP, "SGD", lr=rate):
            pass
        with script.call(LR_STEP, "StepLR", in_init=False):
            pass
        script.end()
    found = examples("APIArg", Argument(OPTIMIZER_STEP, "lr", "lasting"), script.windows())
    return [example.held for example in found]


def test_a_schedule_may_touch_zero_but_not_stay_there() -> None:
    assert [True, True] == rates(0.0, 0.1, 0.2, 0.1)  # a warm-up
    assert [True, True, True] == rates(0.1, 0.0, 0.1, 0.0)  # restarts
    assert [True, False, False] == rates(0.1, 0.0, 0.0, 0.0)


def clips(*roles: str, bound: float = 1.0, optimizers: int = 1) -> list[bool]:
    script = Script()
    for _ in range(2):
        for role in roles:
            with script.call(role, "SGD" if role == OPTIMIZER_STEP else "", max_norm=bound):
                pass
        for other in range(1, optimizers):
            with script.call(OPTIMIZER_STEP, f"SGD#{other}"):
                pass
        script.end()
    found = examples("APISequence", Order(BACKWARD, GRAD_CLIP, "afresh"), script.windows())
    return [example.held for example in found]


def test_clipping_comes_before_the_step() -> None:
    assert [True, True] == clips(BACKWARD, GRAD_CLIP, OPTIMIZER_STEP)
    assert [True, True] == clips(BACKWARD, BACKWARD, GRAD_CLIP, GRAD_CLIP, OPTIMIZER_STEP)
    assert [False, False] == clips(BACKWARD, OPTIMIZER_STEP, GRAD_CLIP)
    assert [] == clips(BACKWARD, OPTIMIZER_STEP, GRAD_CLIP, bound=float("inf"))  # only asks for the norm
    assert [] == clips(BACKWARD, OPTIMIZER_STEP, GRAD_CLIP, optimizers=2)  # perhaps those of the other one


def test_gradients_of_a_scaled_loss_are_unscaled_before_they_are_applied() -> None:
    def run(*between: str, scaled: bool = True) -> list[bool]:
        script = Script()
        with script.call(BACKWARD, scaled=scaled):
            pass
        for role in (*between, OPTIMIZER_STEP):
            with script.call(role, "SGD"):
                pass
        script.end()
        order = Order(GRAD_UNSCALE, OPTIMIZER_STEP, "afresh")
        return [example.held for example in examples("APISequence", order, script.windows())]

    assert [False] == run()
    assert [True] == run(GRAD_UNSCALE)
    assert [True] == run(SCALER_STEP)
    assert [] == run(scaled=False)


def fed(*forwards: bool) -> list[bool]:
    """Steps whose training forwards have these modes; before each a model in the other mode is attacked."""
    script = Script()
    for training in forwards:
        with script.call(FORWARD, "Net", training=not training), script.call(BACKWARD):
            pass
        with script.call(ZERO_GRAD, "SGD"):
            pass
        script.step(training=training)
    return [example.held for example in examples("APIArg", Argument(FORWARD, "training", "steady"), script.windows())]


def test_the_mode_counts_where_a_step_applies_what_the_model_gave() -> None:
    assert [True, True] == fed(True, True, True)
    assert [True, False] == fed(True, True, False)


def accumulated(*clears: Sequence[bool], loader: bool = True, wrapper: str = "") -> list[bool]:
    """Steps of micro-batches; each says whether the gradients are cleared before it."""
    script = Script()
    for step in clears:
        for clear in step:
            if loader:
                with script.call(DATA_NEXT, "DataLoader"):
                    pass
            if clear:
                with script.call(ZERO_GRAD, "SGD"):
                    pass
            with script.call(FORWARD, "Net", wrapper=wrapper), script.call(BACKWARD):
                pass
        with script.call(OPTIMIZER_STEP, "SGD"):
            pass
        script.end()
    found = examples("EventContain", Contain(OPTIMIZER_STEP, "sum:grad", "every"), script.windows())
    return [example.held for example in found]


def test_each_micro_batch_of_a_step_is_applied() -> None:
    assert [True, True] == accumulated([True, False, False], [True, False])
    assert [False, False] == accumulated([True, True, True], [True, True, True])
    assert [False] == accumulated([True, True], [True, True])  # told from the second step on
    assert [True] == accumulated([True, True], [True, False])  # one bad batch was thrown away
    assert [] == accumulated([True, True, False], [True])


def test_an_engine_tells_its_micro_batches_without_a_loader() -> None:
    lost, kept = [True, True, True], [True, False, False]

    assert [False, False] == accumulated(lost, lost, loader=False, wrapper="DeepSpeedEngine")
    assert [True] == accumulated(kept, loader=False, wrapper="DeepSpeedEngine")
    assert [] == accumulated(lost, lost, loader=False)


def annealed(period: int, *, batches: int = 8, per_step: bool = True, epoch: int = 0) -> list[bool]:
    script = Script()
    for index in range(batches):
        with script.call(DATA_NEXT, "DataLoader", index=index, epoch=epoch, batches=batches):
            pass
        if per_step or index == batches - 1:
            count = (index + 1 if per_step else 1) + epoch * (batches if per_step else 1)
            with script.call(LR_STEP, "CosineAnnealingLR", {"last_epoch": count}, in_init=False, period=period):
                pass
        script.end()
    found = examples("APIArg", Argument(LR_STEP, "period", "long enough"), script.windows())
    return [example.held for example in found]


def test_an_annealing_that_counts_batches_outlasts_the_first_pass() -> None:
    assert [True] * 8 == annealed(80)
    assert [True] * 5 + [False] * 3 == annealed(5)
    assert [True] == annealed(5, per_step=False)
    assert [True] * 8 == annealed(8)  # a cycle for each pass
    assert [] == annealed(5, epoch=1)


def streamed(*batches: int) -> list[bool]:
    script = Script()
    for index, batch in enumerate(batches):
        with script.call(DATA_NEXT, "DataLoader", {"hash": batch}, index=index, batches=None):
            pass
        script.end()
    found = examples("APIArg", Argument(DATA_NEXT, "hash", "distinct"), script.windows())
    return [example.held for example in found]


def test_a_stream_that_varies_gives_no_batch_twice() -> None:
    assert [True, True] == streamed(1, 2, 3)
    assert [True, False, True, False] == streamed(1, 1, 2, 2, 3, 3)
    assert [] == streamed(1, 1, 1)  # all the data at once


def evaluated(*, training: bool, active: bool, stage: str = "eval", p: float = 0.5) -> list[bool]:
    script = Script()
    script.context = Context(stage=stage, grad_enabled=False)
    with script.call(FORWARD, "Net", training=training), script.call(DROPOUT, "Net.drop", p=p, active=active):
        pass
    script.end()
    found = examples("APIArg", Argument(DROPOUT, "active", "off in evaluation"), script.windows())
    return [example.held for example in found]


def test_an_evaluation_in_training_mode_is_told_by_its_dropout() -> None:
    assert [True] == evaluated(training=False, active=False)
    assert [False] == evaluated(training=True, active=True)
    assert [] == evaluated(training=False, active=True)  # Monte-Carlo dropout
    assert [] == evaluated(training=True, active=True, stage="train")  # a teacher
    assert [] == evaluated(training=True, active=False, p=0.0)
