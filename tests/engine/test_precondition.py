"""A precondition holds where the relation held and nowhere where it failed."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from traincheck.precondition import ALWAYS, MAX_CONJUNCTIONS, Clause, Precondition, find
from traincheck.values import Fields, Value, fields

values = st.sampled_from([True, False, None, "train", "eval", 1, 1.0, ("a", "b"), ("a", "a")])
contexts = st.dictionaries(st.sampled_from(["stage", "lr", "trainable", "rank"]), values, max_size=4).map(fields)


@example({fields({"lr": 1, "stage": True}): 1}, [fields({"lr": True}), fields({"lr": 1})])
@given(st.dictionaries(contexts, st.integers(1, 9), max_size=12), st.lists(contexts, max_size=12))
def test_it_holds_on_passing_and_on_no_failing_context(passing: dict[Fields, int], failing: list[Fields]) -> None:
    condition = find(passing, failing)

    if condition is None:
        return
    assert any(condition.holds(dict(context)) for context in passing)
    assert not any(condition.holds(dict(context)) for context in failing)
    assert len(condition.conjunctions) <= MAX_CONJUNCTIONS


def test_without_a_failing_example_it_is_always() -> None:
    assert ALWAYS == find({fields({"stage": "train"}): 1}, [])


def test_one_clause_is_enough_where_one_separates() -> None:
    passing = {fields({"stage": "train", "lr": "normal", "trainable": True}): 1}
    failing = [fields({"stage": "train", "lr": "normal", "trainable": False})]

    assert Precondition(((Clause("trainable", "constant", True),),)) == find(passing, failing)


def test_two_kinds_of_passing_examples_become_a_disjunction() -> None:
    passing = {fields({"a": 1, "b": 0}): 5, fields({"a": 0, "b": 1}): 5}
    failing = [fields({"a": 0, "b": 0})]

    condition = find(passing, failing)

    assert condition is not None
    assert 2 == len(condition.conjunctions)


def test_nothing_separates_equal_contexts() -> None:
    same = [fields({"stage": "train"})]

    assert find(dict.fromkeys(same, 1), same) is None


def test_records_of_one_example_are_compared() -> None:
    passing = {fields({"placement": (word, word)}): 1 for word in ("replicated", "local")}
    failing = [fields({"placement": ("replicated", "sharded")})]

    condition = find(passing, failing)

    assert Precondition(((Clause("placement", "consistent"),),)) == condition


def test_a_value_is_compared_with_its_type() -> None:
    clause = Clause("tensors", "constant", 1)
    held: list[Value] = [1, True, 1.0]

    assert [True, False, False] == [clause.holds({"tensors": value}) for value in held]


def test_what_is_too_rare_to_describe_is_left_uncovered() -> None:
    passing = {fields({"a": 1, "b": 0}): 99, fields({"a": 0, "b": 1}): 1}
    failing = [fields({"a": 0, "b": 0})]

    assert Precondition(((Clause("a", "constant", 1),),)) == find(passing, failing)
