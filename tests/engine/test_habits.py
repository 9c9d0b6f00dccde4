"""A vector of which nobody says how the ranks hold it counts as replicated where the matrices around it are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.script import Script, parameter, side_by_side
from tests.engine.test_across_ranks import PARAMETERS, failures
from traincheck.events import Process, Variable

STEPS = 8

ALIKE, APART, STILL = "alike", "apart", "still"
"""How a parameter moves: to the same on both ranks, to something else on each, or not at all."""


def blamed(parameters: Mapping[str, str], **changes: Mapping[str, object]) -> set[str]:
    """The parameters that are told to differ on two ranks that move them so, where a replicated one should not.

    Weights of modules called ``norm``, and biases, are vectors; ``changes`` are by name, with ``_`` for dots.
    """

    def variable(name: str) -> Variable:
        vector = "norm" in name or name.endswith(("bias", "scale"))
        return parameter(name, **{"shape": (4,) if vector else (4, 4), **changes.get(name.replace(".", "_"), {})})

    ranks = [Script(Process(rank, 2), seed=rank, variables=tuple(map(variable, parameters))) for rank in range(2)]
    for step in range(STEPS):
        for rank, script in enumerate(ranks):
            for number, (name, how) in enumerate(parameters.items()):
                moved = 100 * (step + 1) + 10 * number
                script.params[name] = {ALIKE: moved, APART: moved + 1000 * (rank + 1), STILL: number}[how]
            script.step(moves=())
    return {
        name
        for example in failures("Consistent", PARAMETERS, side_by_side(ranks))
        if ("placement", "local but moved alike") in example.context
        for name in example.names
    }


TRUNK = {"Net.hidden.weight": ALIKE, "Net.head.weight": ALIKE}


@pytest.mark.parametrize(
    ("inside", "parted"),
    [
        ({"Net.norm.weight": APART, "Net.norm.bias": APART}, {"Net.norm.weight", "Net.norm.bias"}),
        ({"Net.norm.weight": APART, "Net.norm.bias": ALIKE}, {"Net.norm.weight"}),
        ({"Net.hidden.bias": APART}, {"Net.hidden.bias"}),
        ({"Net.block.norm.weight": APART, "Net.block.fc.weight": ALIKE}, {"Net.block.norm.weight"}),
        ({"Net.scale": APART}, {"Net.scale"}),
    ],
)
def test_a_vector_among_replicated_matrices_is_compared(inside: dict[str, str], parted: set[str]) -> None:
    assert parted == blamed({**TRUNK, **inside})


@pytest.mark.parametrize(
    "inside",
    [
        pytest.param(
            {"Net.expert.norm.weight": APART, "Net.expert.fc1.weight": APART, "Net.expert.fc2.weight": APART},
            id="an expert has a norm of its own",
        ),
        pytest.param(
            {"Net.block.norm.weight": APART, "Net.block.column.weight": APART, "Net.block.router.weight": ALIKE},
            id="layers around the norm are split over the ranks",
        ),
        pytest.param({"Net.norm.weight": APART, "Net.column.weight": APART}, id="one of the layers is split"),
        pytest.param({"Net.row.weight": APART, "Net.row.bias": APART}, id="each rank adds a bias to its share"),
        pytest.param({"Net.block.norm.weight": APART, "Net.block.fc.weight": STILL}, id="adapters on frozen layers"),
        pytest.param({"Net.adapter.norm.weight": APART}, id="no matrices around it"),
    ],
)
def test_a_vector_that_belongs_to_its_rank_is_not(inside: dict[str, str]) -> None:
    assert set() == blamed({**TRUNK, **inside})


@pytest.mark.parametrize(
    "changes",
    [
        {"Net_head_weight": {"placement": "replicated", "replicas": (0, 1)}},
        {"Net_norm_weight": {"optimizer": ""}},
        {"Net_norm_weight": {"trainable": False}},
        {"Net_norm_weight": {"in_model": False}},
    ],
    ids=["a wrapper leaves it out", "no optimizer holds it", "it is frozen", "it is not of the model"],
)
def test_a_vector_that_is_treated_apart_is_not(changes: dict[str, dict[str, object]]) -> None:
    apart = {**TRUNK, "Net.norm.weight": APART}

    assert {"Net.norm.weight"} == blamed(apart)
    assert set() == blamed(apart, **changes)


@given(st.lists(st.sampled_from(["Net.a.fc", "Net.a.b.fc", "Net.c.fc", "Net.fc"]), unique=True))
def test_ranks_that_train_each_for_itself_are_left_alone(modules: Sequence[str]) -> None:
    own = {f"{module}.{kind}": APART for module in modules for kind in ("weight", "bias")}

    assert set() == blamed({**own, "Net.norm.weight": APART, "Net.a.norm.weight": APART})
