"""Ranks are compared where they are to be alike, and nowhere else; who differs is named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.engine.script import NAMES, Script, parameter, side_by_side
from traincheck.events import Context, Process, Variable
from traincheck.relations import Example, Memory, by_name
from traincheck.relations.api_output import Output
from traincheck.relations.argument import Argument
from traincheck.relations.consistent import Equal
from traincheck.vocabulary import COLLECTIVE, FORWARD, GRAD_CLIP
from traincheck.window import Window

PARAMETERS = Equal("param", "ranks")
SIZES = Argument(COLLECTIVE, "numel", "same on ranks")
NAME = Argument(COLLECTIVE, "name", "same on ranks")


def scripts(count: int, variables: Any = lambda rank: tuple(map(parameter, NAMES))) -> list[Script]:
    return [Script(Process(rank, count), variables=variables(rank)) for rank in range(count)]


def judged(relation: str, subject: Any, windows: Sequence[Window]) -> list[Example]:
    memory = Memory()
    return [example for window in windows for example in by_name(relation).examples(subject, window, memory)]


def failures(relation: str, subject: Any, windows: Sequence[Window]) -> list[Example]:
    return [example for example in judged(relation, subject, windows) if not example.held]


def fed(*batches: Sequence[int], wrapped: bool = True) -> list[bool]:
    """Steps in which the ranks are fed these batches."""
    ranks = scripts(2)
    for step in batches:
        for script, batch in zip(ranks, step, strict=True):
            with script.call(FORWARD, "Net", inputs=batch, through_wrapper=wrapped):
                pass
            script.end()
    found = judged("APIArg", Argument(FORWARD, "inputs", "apart on ranks"), side_by_side(ranks))
    return [example.held for example in found]


def test_replicas_that_are_fed_the_same_batches_are_found_in_the_second_step() -> None:
    assert [True, True] == fed((1, 2), (3, 4))
    assert [False, False] == fed((1, 1), (2, 2), (3, 3))
    assert [True] == fed((1, 1), (2, 3), (4, 4))  # it may happen once
    assert [] == fed((1, 1), (1, 1))  # all the data at once, or a test on one batch
    assert [] == fed((1, 1), (2, 2), wrapped=False)  # the ranks of a tensor-parallel model


def on_grid(rank: int) -> tuple[Variable, ...]:
    """Four ranks, two by two: a shard that two of them hold together."""
    pair = (0, 2) if rank in (0, 2) else (1, 3)
    return tuple(parameter(name, placement="sharded", replicas=pair) for name in NAMES)


def test_a_shard_is_compared_with_the_ranks_that_hold_the_same_one() -> None:
    ranks = scripts(4, on_grid)
    for rank, script in enumerate(ranks):
        script.params = dict.fromkeys(NAMES, rank % 2)
        script.step(moves=())

    found = judged("Consistent", PARAMETERS, side_by_side(ranks))

    assert [(True, 8)] == [(example.held, example.count) for example in found]


def test_a_replica_of_a_shard_that_drifts_apart_is_found() -> None:
    ranks = scripts(4, on_grid)
    for rank, script in enumerate(ranks):
        script.params = dict.fromkeys(NAMES, rank % 2)
    ranks[3].params[NAMES[1]] = 7
    for script in ranks:
        script.step(moves=())

    (found,) = failures("Consistent", PARAMETERS, side_by_side(ranks))

    assert (NAMES[1],) == found.names
    assert f"{NAMES[1]} differs between ranks 1, 3" == found.seen
    assert (("placement", "replicated"), ("trainable", True)) == found.context


def test_with_three_ranks_the_odd_one_out_is_named() -> None:
    ranks = scripts(3, lambda rank: tuple(parameter(name, placement="replicated") for name in NAMES))
    ranks[1].params[NAMES[2]] = 7
    for script in ranks:
        script.step(moves=())

    (found,) = failures("Consistent", PARAMETERS, side_by_side(ranks))

    assert f"{NAMES[2]} on rank 1 differs from the 2 other ranks" == found.seen


def test_a_gradient_that_each_rank_holds_a_part_of_is_not_compared() -> None:
    ranks = scripts(2, lambda rank: tuple(parameter(name, placement="copied", replicas=(0, 1)) for name in NAMES))
    for script in ranks:
        script.step(moves=())
        script.grads = dict.fromkeys(NAMES, script.process.rank)

    assert [] == judged("Consistent", Equal("grad", "ranks"), side_by_side(ranks))
    assert [True] == [example.held for example in judged("Consistent", PARAMETERS, side_by_side(ranks))]


def with_gradients_of_their_own(count: int) -> list[Script]:
    return [Script(Process(rank, count), seed=rank, variables=tuple(map(parameter, NAMES))) for rank in range(count)]


def test_what_moved_alike_for_some_steps_counts_as_replicated_beside_what_did_not() -> None:
    ranks = with_gradients_of_their_own(2)
    for step in range(8):
        for script in ranks:
            script.params[NAMES[0]] = 100 + step
            script.params[NAMES[1]] = 10 * step + script.process.rank
        if step >= 6:
            ranks[1].params[NAMES[0]] = 7
        for script in ranks:
            script.step(moves=())

    found = failures("Consistent", PARAMETERS, side_by_side(ranks))
    told = [example for example in found if ("placement", "local but moved alike") in example.context]

    assert 2 == len(told)
    assert {(NAMES[0],)} == {example.names for example in told}


def test_ranks_that_apply_the_same_gradients_to_different_weights_are_found_in_the_second_step() -> None:
    started_alike, apart = scripts(2), scripts(2)
    apart[1].params = dict.fromkeys(NAMES, 7)
    for script in (*started_alike, *apart):
        for _ in range(3):
            script.step(moves=())

    assert [] == failures("Consistent", PARAMETERS, side_by_side(started_alike))
    assert ["local", "local but moved alike", "local but moved alike"] == [
        dict(example.context)["placement"] for example in failures("Consistent", PARAMETERS, side_by_side(apart))
    ]


def collective(script: Script, name: str, group: tuple[int, ...], numel: int, **more: Any) -> None:
    with script.call(f"{COLLECTIVE}{name}", numel=numel, op="SUM", dtype="float32", group=group, **more):
        pass


def test_collectives_are_compared_group_by_group() -> None:
    ranks = scripts(4)
    for rank, script in enumerate(ranks):
        collective(script, "all_reduce", (0, 1) if rank < 2 else (2, 3), numel=4 if rank < 2 else 9)
        collective(script, "all_reduce", (0, 1, 2, 3), numel=1)
        script.step()

    assert [True] * 3 == [example.held for example in judged("APIArg", SIZES, side_by_side(ranks))]


def test_a_rank_that_sends_another_size_than_its_group_is_named() -> None:
    ranks = scripts(4)
    for rank, script in enumerate(ranks):
        if rank:
            collective(script, "all_to_all_single", (1, 2, 3), numel=6 if rank == 2 else 8)
        script.step()

    (found,) = failures("APIArg", SIZES, side_by_side(ranks))

    assert "call 1: 6 on rank 2, 8 on the 2 other ranks" == found.seen
    assert "number of elements equal on ranks 1, 2, 3" == found.expected


def test_uneven_exchanges_may_differ_in_size() -> None:
    ranks = scripts(2)
    for rank, script in enumerate(ranks):
        collective(script, "all_to_all_single", (0, 1), numel=5 + rank, uneven=True)
        collective(script, "all_reduce", (0, 1), numel=3)
        script.step()

    assert [True] == [example.held for example in judged("APIArg", SIZES, side_by_side(ranks))]


def test_a_collective_that_one_rank_leaves_out_is_found_in_that_step() -> None:
    ranks = scripts(2)
    for step in range(3):
        for rank, script in enumerate(ranks):
            if rank == 1 and step == 1:
                collective(script, "broadcast", (0, 1), numel=1)
            collective(script, "all_reduce", (0, 1), numel=1)
            script.step()

    found = failures("APIArg", NAME, side_by_side(ranks))

    assert ["call 1: all_reduce on rank 0, broadcast on rank 1"] == [example.seen for example in found]


def test_a_rank_that_ended_within_the_step_is_compared_as_far_as_it_came() -> None:
    ranks = scripts(2)
    for rank, script in enumerate(ranks):
        collective(script, "all_reduce", (0, 1), numel=1)
        if rank == 0:
            collective(script, "barrier", (0, 1), numel=1)
    windows = [
        Window(0, script.process, [record for record in script.records if hasattr(record, "role")], {}, final=rank == 1)
        for rank, script in enumerate(ranks)
    ]
    windows[0].peers = tuple(windows)

    assert [True] == [example.held for example in judged("APIArg", NAME, windows[:1])]
    windows[1].final = False
    assert [False] == [example.held for example in judged("APIArg", NAME, windows[:1])]


def test_what_a_rank_does_after_its_last_step_belongs_to_no_step() -> None:
    ranks = scripts(2)
    for rank, script in enumerate(ranks):
        collective(script, "all_reduce", (0, 1), numel=1)
        with script.call("optimizer.step", "SGD"):
            pass
        if rank == 0:
            collective(script, "all_reduce", (0, 1), numel=1)
    windows = [
        Window(0, script.process, [record for record in script.records if hasattr(record, "role")], {})
        for script in ranks
    ]
    windows[0].peers = tuple(windows)

    assert [True] == [example.held for example in judged("APIArg", NAME, windows[:1])]


def test_the_norm_that_gradients_are_clipped_by_is_the_same_on_all_ranks() -> None:
    ranks = scripts(2)
    for rank, script in enumerate(ranks):
        with script.call(GRAD_CLIP, "", {"total_norm": 1.5 + rank}, max_norm=1.0):
            pass
        script.step()

    (found,) = failures("APIOutput", Output(GRAD_CLIP, "total_norm", "same on ranks"), side_by_side(ranks))

    assert "call 1: 1.5 on rank 0, 2.5 on rank 1" == found.seen


def test_a_training_forward_past_the_wrapper_is_named_and_other_forwards_are_not() -> None:
    past = Argument(FORWARD, "through_wrapper", "true")
    script = Script(Process(0, 2))
    wrapped: dict[str, Any] = {"wrapper": "DistributedDataParallel", "training": True, "size": 8}
    for step in range(3):
        script.context = Context(stage="eval", grad_enabled=False)
        with script.call(FORWARD, "Net", through_wrapper=False, **wrapped):
            pass
        script.context = Context(stage="train")
        with script.call(FORWARD, "Net", through_wrapper=step != 1, **wrapped), script.call("backward"):
            pass
        with script.call("backward"), script.call("optimizer.step", "SGD"):
            pass
        script.end()

    found = judged("APIArg", past, script.windows())

    assert [True, False, True] == [example.held for example in found]
    assert ("Net",) == found[1].names
    assert "past its DistributedDataParallel" in found[1].seen
