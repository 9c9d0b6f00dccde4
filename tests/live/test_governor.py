"""What recording costs stays within the budget, whatever it is measured to be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from traincheck.governor import FIRST_STEPS, LEFT_OUT_S, Governor

seconds = st.floats(min_value=1e-4, max_value=1.0)


def run(governor: Governor, durations: list[float], costs: list[float]) -> list[bool]:
    """Which steps were recorded, when step ``n`` takes ``durations[n]`` and recording it ``costs[n]`` more."""
    recorded = []
    for step, (duration, cost) in enumerate(zip(durations, costs, strict=True)):
        records = governor.next_recorded(step) == step
        spent = cost if records else 0.0
        governor.measured(step, duration + spent, spent, recorded=records)
        recorded.append(records)
    return recorded


@given(
    budget=st.floats(min_value=0.0, max_value=0.5),
    steps=st.lists(st.tuples(seconds, seconds), min_size=FIRST_STEPS + 1, max_size=200),
)
def test_the_cost_after_the_first_steps_is_within_the_budget_but_for_one_pair(
    budget: float, steps: list[tuple[float, float]]
) -> None:
    durations, costs = [list(column) for column in zip(*steps, strict=True)]
    recorded = run(Governor(budget), durations, costs)

    spent = sum(cost for cost, records in list(zip(costs, recorded, strict=True))[FIRST_STEPS:] if records)
    allowed = budget * sum(durations[FIRST_STEPS:]) + 2 * max(costs)
    assert spent <= allowed + 1e-9


@given(
    budget=st.floats(min_value=0.0, max_value=0.5),
    steps=st.lists(st.tuples(seconds, seconds), min_size=FIRST_STEPS + 1, max_size=200),
)
def test_what_the_first_steps_cost_is_paid_back(budget: float, steps: list[tuple[float, float]]) -> None:
    durations, costs = [list(column) for column in zip(*steps, strict=True)]
    recorded = run(Governor(budget), durations, costs)

    spent = sum(cost for cost, records in zip(costs, recorded, strict=True) if records)
    allowed = max(sum(costs[:FIRST_STEPS]), budget * sum(durations[1:]) + 2 * max(costs))
    assert spent <= allowed + 1e-9


@pytest.mark.parametrize("steps", [500, 2000])
def test_steps_of_two_milliseconds_stay_within_two_percent_with_what_left_out_steps_cost(steps: int) -> None:
    recorded = sum(run(Governor(0.02), [0.002] * steps, [0.0012] * steps))

    assert recorded >= FIRST_STEPS
    assert (recorded > FIRST_STEPS) == (steps == 2000)
    assert recorded * 0.0012 + (steps - recorded) * LEFT_OUT_S <= 0.02 * steps * 0.002 + FIRST_STEPS * LEFT_OUT_S


def test_steps_that_nobody_looks_at_are_measured_as_one() -> None:
    one_by_one, at_once = Governor(0.02), Governor(0.02)
    for governor in (one_by_one, at_once):
        for step in range(FIRST_STEPS):
            governor.next_recorded(step)
            governor.measured(step, 0.012, 0.002, recorded=True)
    asked = at_once.next_recorded(FIRST_STEPS)
    for step in range(FIRST_STEPS, asked):
        one_by_one.measured(step, 0.0101, 0.0001, recorded=False)
    at_once.measured(
        FIRST_STEPS,
        0.0101 * (asked - FIRST_STEPS),
        0.0001 * (asked - FIRST_STEPS),
        recorded=False,
        steps=asked - FIRST_STEPS,
    )

    assert one_by_one.interval == at_once.interval
    assert one_by_one.next_recorded(asked) == at_once.next_recorded(asked)


@given(duration=seconds, cost=seconds, budget=st.floats(min_value=0.01, max_value=0.5))
def test_recorded_steps_come_in_pairs_of_neighbours(duration: float, cost: float, budget: float) -> None:
    recorded = run(Governor(budget), [duration] * 300, [cost] * 300)

    assert all(recorded[:FIRST_STEPS])
    assert [recorded[step] for step in range(0, 300, 2)] == [recorded[step] for step in range(1, 300, 2)]


@given(data=st.lists(st.tuples(seconds, seconds), min_size=20, max_size=100))
def test_equal_measurements_give_equal_decisions(data: list[tuple[float, float]]) -> None:
    durations, costs = [list(column) for column in zip(*data, strict=True)]

    assert run(Governor(0.02), durations, costs) == run(Governor(0.02), durations, costs)


def test_ranks_with_different_costs_record_the_steps_of_the_dearest_one_together() -> None:
    cheap = run(Governor(0.02), [0.1] * 2000, [0.004] * 2000)
    dear = run(Governor(0.02), [0.1] * 2000, [0.05] * 2000)

    together = [step for step in range(FIRST_STEPS, 2000) if dear[step]]
    assert together
    assert all(cheap[step] for step in together)
    assert sum(cheap) > sum(dear)


def test_without_a_budget_every_step_is_recorded() -> None:
    assert all(run(Governor(None), [0.001] * 50, [1.0] * 50))


def test_what_costs_next_to_nothing_is_done_at_every_step() -> None:
    assert all(run(Governor(0.02), [0.1] * 500, [0.001] * 500))


def test_a_budget_of_nothing_leaves_the_first_steps() -> None:
    assert FIRST_STEPS == sum(run(Governor(0.0), [0.1] * 500, [0.001] * 500))


def test_a_negative_budget_is_refused() -> None:
    with pytest.raises(ValueError, match=r"overhead is -0\.1"):
        Governor(-0.1)


def test_the_first_steps_of_a_resumed_run_are_recorded_too() -> None:
    governor = Governor(0.02)
    recorded = []
    for step in (0, *range(1001, 1012)):
        recorded.append(governor.next_recorded(step) == step)
        governor.measured(step, 0.01, 0.01, recorded=recorded[-1])

    assert [True] * 10 + [False] * 2 == recorded
