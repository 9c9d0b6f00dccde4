"""A record as a row of a part, and back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, fields
from functools import lru_cache
from itertools import compress
from typing import Any, Final, TypeAlias

from traincheck.events import Call, Context, Record, Snapshot, StepEnd, Variable, VariableTable
from traincheck.values import decode, encode
from traincheck.vocabulary import LR

CALL: Final = "call"
STATE: Final = "state"
VARIABLES: Final = "variables"
STEP: Final = "step"

Row: TypeAlias = "tuple[Any, ...]"

_KEYS: Final = (("kind", "string"), ("seq", "int64"), ("step", "int64"))
_CALL: Final = (
    ("end", "int64"),
    ("parent", "int64"),
    ("role", "string"),
    ("api", "string"),
    ("subject", "string"),
    ("stage", "string"),
    ("micro_step", "int64"),
    ("grad_enabled", "bool"),
    ("autocast", "string"),
    ("args", "string"),
    ("out", "string"),
    ("error", "string"),
    ("thread", "int64"),
    ("time_ns", "int64"),
    ("duration_ns", "int64"),
)
_STATE: Final = (
    ("call", "int64"),
    ("point", "string"),
    ("variable", "string"),
    ("names", "list<string>"),
    ("hashes", "list<uint64>"),
    ("values", "list<float64>"),
)
_VARIABLES: Final = (("payload", "string"),)
_STEP: Final = (("recorded", "bool"),)

COLUMNS: Final = (*_KEYS, *_CALL, *_STATE, *_VARIABLES, *_STEP)
"""Their names and Arrow types: :data:`traincheck.trace.schema.SCHEMA` without Arrow, which is large to import."""

_NO_CALL: Final = (None,) * len(_CALL)
_NO_STATE: Final = (None,) * len(_STATE)
_CALL_CELLS: Final = slice(len(_KEYS), len(_KEYS) + len(_CALL))
_STATE_CELLS: Final = slice(_CALL_CELLS.stop, _CALL_CELLS.stop + len(_STATE))
_PAYLOAD: Final = _STATE_CELLS.stop
_RECORDED: Final = _PAYLOAD + 1

_VARIABLE_TYPES: Final = {
    field.name: {"str": str, "bool": bool, "tuple[int, ...]": list}[str(field.type)] for field in fields(Variable)
}


def to_row(record: Record, step: int) -> Row:
    """The cells of ``record``, which belongs to the step numbered ``step``, in the order of :data:`COLUMNS`."""
    match record:
        case Call():
            return (CALL, record.seq, step, *_call_cells(record), *_NO_STATE, None, None)
        case Snapshot():
            return (STATE, record.seq, step, *_NO_CALL, *_state_cells(record), None, None)
        case VariableTable():
            return (VARIABLES, record.seq, step, *_NO_CALL, *_NO_STATE, _payload(record.variables), None)
        case StepEnd():
            return (STEP, record.seq, record.step, *_NO_CALL, *_NO_STATE, None, record.recorded)


def _call_cells(call: Call) -> Row:
    context = call.context
    return (
        call.end,
        call.parent,
        call.role,
        call.api,
        call.subject,
        context.stage,
        context.micro_step,
        context.grad_enabled,
        context.autocast,
        encode(call.args) if call.args else "{}",
        encode(call.out) if call.out else "{}",
        call.error,
        call.thread,
        call.time_ns,
        call.duration_ns,
    )


def _state_cells(state: Snapshot) -> Row:
    return (state.call, state.point, state.kind, state.names, state.hashes, state.values)


def _payload(variables: Sequence[Variable]) -> str:
    return f"[{','.join(map(_variable_text, variables))}]"


@lru_cache(maxsize=1 << 14)
def _variable_text(variable: Variable) -> str:
    return json.dumps(asdict(variable), separators=(",", ":"))


class RowReader:
    """Makes records from rows. Equal contexts, arguments and lists of names are one object each, to be read only."""

    def __init__(self) -> None:
        self._decode: Callable[[str], dict[str, Any]] = lru_cache(maxsize=1 << 14)(decode)
        self._context: Callable[[str, int, bool, str], Context] = lru_cache(maxsize=1 << 12)(Context)
        self._names: Callable[[tuple[Any, ...]], tuple[str, ...]] = lru_cache(maxsize=1 << 10)(_names)
        self._variables: Callable[[str], tuple[Variable, ...]] = lru_cache(maxsize=16)(_parse_variables)

    def record(self, row: Row) -> Record:
        """The record in ``row``, whose cells have the types of :data:`COLUMNS`. Raises ``ValueError``."""
        kind, seq, step = row[:3]
        if seq is None or step is None:
            raise ValueError(f"field {'seq' if seq is None else 'step'!r} is null")
        if kind == CALL:
            return self._call(seq, row[_CALL_CELLS])
        if kind == STATE:
            return self._state(seq, row[_STATE_CELLS])
        if kind == VARIABLES:
            return self._table(seq, row[_PAYLOAD])
        if kind == STEP:
            return _step_end(seq, step, row[_RECORDED])
        raise ValueError(f"field 'kind' is {kind!r}; expected one of {CALL}, {STATE}, {VARIABLES}, {STEP}")

    def records(self, columns: Sequence[Sequence[Any]]) -> Iterator[Record]:
        """What :meth:`record` makes of each of many rows, given by column, in half the time."""
        kinds = columns[0]
        try:
            calls = self._calls(_cells(columns, [kind == CALL for kind in kinds], _CALL_CELLS))
            states = self._states(_cells(columns, [kind == STATE for kind in kinds], _STATE_CELLS))
        except ValueError:  # row by row, it is told which one is wrong
            yield from map(self.record, zip(*columns, strict=True))
            return
        for place, kind in enumerate(kinds):
            if kind == CALL:
                yield next(calls)
            elif kind == STATE:
                yield next(states)
            else:
                yield self.record(tuple(column[place] for column in columns))

    def _calls(self, cells: Sequence[Sequence[Any]]) -> Iterator[Call]:
        seqs, _, ends, parents, roles, apis, subjects, stages, micro_steps, grad, autocast, args, out, *rest = cells
        contexts = map(self._context, stages, micro_steps, grad, autocast)
        decoded = map(self._decode, args), map(self._decode, out)
        return iter(list(map(Call, seqs, ends, parents, roles, apis, subjects, contexts, *decoded, *rest)))

    def _states(self, cells: Sequence[Sequence[Any]]) -> Iterator[Snapshot]:
        seqs, _, calls, points, kinds, listed, *contents = cells
        names = [self._names(tuple(names)) for names in listed]
        for kind, known, hashes, values in zip(kinds, names, *contents, strict=True):
            _check_lengths(kind, known, hashes, values)
        return map(Snapshot, seqs, calls, points, kinds, names, *(map(tuple, content) for content in contents))

    def _call(self, seq: int, cells: Row) -> Call:
        if None in cells:
            raise ValueError(_null(_CALL, cells))
        end, parent, role, api, subject, stage, micro_step, grad_enabled, autocast, args, out, *rest = cells
        context = self._context(stage, micro_step, grad_enabled, autocast)
        field = "args"
        try:
            arguments = self._decode(args)
            field = "out"
            output = self._decode(out)
        except ValueError as error:
            raise ValueError(f"field {field!r}: {error}") from error
        return Call(seq, end, parent, role, api, subject, context, arguments, output, *rest)

    def _state(self, seq: int, cells: Row) -> Snapshot:
        if None in cells:
            raise ValueError(_null(_STATE, cells))
        call, point, kind, listed, hashes, values = cells
        names = self._names(tuple(listed))
        _check_lengths(kind, names, hashes, values)
        return Snapshot(seq, call, point, kind, names, tuple(hashes), tuple(values))

    def _table(self, seq: int, payload: str | None) -> VariableTable:
        if payload is None:
            raise ValueError("field 'payload' is null")
        try:
            return VariableTable(seq, self._variables(payload))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"field 'payload': {error}") from error


def _cells(columns: Sequence[Sequence[Any]], chosen: Sequence[bool], own: slice) -> list[list[Any]]:
    """Position, step and the own cells of the chosen rows, by column. Raises ``ValueError`` where one is null."""
    cells = [list(compress(column, chosen)) for column in (*columns[1 : len(_KEYS)], *columns[own])]
    if any(None in column for column in cells):
        raise ValueError("a cell is null")
    return cells


def _check_lengths(kind: str, names: Sequence[str], hashes: Sequence[Any], values: Sequence[Any]) -> None:
    needed, other = (values, hashes) if kind == LR else (hashes, values)
    if len(needed) != len(names) or (other and len(other) != len(names)):
        wrong = needed if len(needed) != len(names) else other
        column = "hashes" if wrong is hashes else "values"
        raise ValueError(f"field {column!r} has {len(wrong)} entries for {len(names)} names")


def _step_end(seq: int, step: int, recorded: bool | None) -> StepEnd:
    if recorded is None:
        raise ValueError("field 'recorded' is null")
    return StepEnd(seq, step, recorded)


def _null(columns: Sequence[tuple[str, Any]], cells: Row) -> str:
    return f"field {columns[cells.index(None)][0]!r} is null"


def _names(names: tuple[Any, ...]) -> tuple[str, ...]:
    if None in names:
        raise ValueError("field 'names' has a null entry")
    return names


def _parse_variables(text: str) -> tuple[Variable, ...]:
    document = json.loads(text)
    if not isinstance(document, list):
        raise ValueError("expected a list of variables")
    return tuple(_parse_variable(place, item) for place, item in enumerate(document))


def _parse_variable(place: int, item: object) -> Variable:
    if not isinstance(item, dict) or set(item) != set(_VARIABLE_TYPES):
        raise ValueError(f"variable {place}: expected an object with {', '.join(_VARIABLE_TYPES)}")
    for name, expected in _VARIABLE_TYPES.items():
        if type(item[name]) is not expected:
            raise ValueError(f"variable {place}: {name!r} is {item[name]!r:.40}")
    lists = [name for name, expected in _VARIABLE_TYPES.items() if expected is list]
    for name in lists:
        if any(type(number) is not int for number in item[name]):
            raise ValueError(f"variable {place}: {name!r} is {item[name]!r:.40}")
    return Variable(**{**item, **{name: tuple(item[name]) for name in lists}})
