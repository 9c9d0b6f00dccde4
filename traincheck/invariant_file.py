"""The file that invariants are kept in: one JSON document, versioned, data only."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from traincheck import relations
from traincheck.invariant import Curation, Evidence, Invariant, Severity
from traincheck.json_file import (
    DocumentError,
    Strict,
    check_header,
    first_fault,
    parse,
    read_text,
    validated,
    write_text,
)
from traincheck.precondition import Clause, Precondition, Test
from traincheck.values import Value, from_json, to_json

SCHEMA_VERSION: Final = 1
KIND: Final = "traincheck-invariants"


@dataclass(frozen=True, slots=True)
class SourceRun:
    """A run that invariants were inferred from."""

    command: str
    steps: int
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where the invariants of a file come from."""

    created: str
    """When they were inferred: ISO 8601, in UTC."""
    traincheck: str
    """The version that inferred them."""
    runs: tuple[SourceRun, ...] = ()


RecordedValue = Annotated[Any, BeforeValidator(from_json)]


class _Clause(Strict):
    field: str
    test: Test
    value: RecordedValue


class _Evidence(Strict):
    examples: int = Field(ge=0)
    steps: int = Field(ge=0)
    runs: int = Field(ge=0)
    programs: int = Field(ge=0)
    confidence: float = Field(ge=0, le=1)
    excluded: int = Field(ge=0)


class CurationDocument(Strict):
    """What a person added to an invariant."""

    code: str = Field(min_length=1)
    title: str = Field(min_length=1)
    severity: Severity
    why_silent: str
    fix: str

    @property
    def curation(self) -> Curation:
        """As the value that invariants carry."""
        return Curation(self.code, self.title, self.severity, self.why_silent, self.fix)


class InvariantDocument(Strict):
    """One invariant."""

    id: str
    relation: str
    subject: dict[str, RecordedValue]
    precondition: list[list[_Clause]] = Field(min_length=1)
    domain: dict[str, list[RecordedValue]]
    evidence: _Evidence
    text: str
    curation: CurationDocument | None = None
    priority: int | None = None

    @property
    def invariant(self) -> Invariant:
        """As the value that checking works with. Raises ``ValueError`` when the parts do not fit each other."""
        check_subject(self.relation, self.subject)
        invariant = Invariant(
            relation=self.relation,
            subject=self.subject,
            precondition=Precondition(
                tuple(
                    tuple(Clause(clause.field, clause.test, clause.value) for clause in conjunction)
                    for conjunction in self.precondition
                )
            ),
            text=self.text,
            evidence=Evidence(**self.evidence.model_dump()),
            domain={name: tuple(values) for name, values in self.domain.items()},
            curation=self.curation.curation if self.curation else None,
            priority=self.priority,
        )
        if invariant.id != self.id:
            raise ValueError(f".id is {self.id!r:.40}, but its content has the id {invariant.id!r}: infer it again")
        return invariant


class _Run(Strict):
    command: str
    steps: int = Field(ge=0)
    versions: dict[str, str]


class _Provenance(Strict):
    created: str
    traincheck: str
    runs: list[_Run]


class _Document(Strict):
    schema_version: int
    kind: Literal["traincheck-invariants"]
    provenance: _Provenance
    invariants: list[InvariantDocument]


def load_invariants(path: Path) -> list[Invariant]:
    """The invariants of the file at ``path``. Raises :class:`DocumentError` naming the place."""
    return parse_invariants(read_text(path), str(path))


def load_provenance(path: Path) -> Provenance:
    """Where the invariants of the file at ``path`` come from. Raises :class:`DocumentError` naming the place."""
    name = str(path)
    data = parse(read_text(path), name)
    check_header(data, name, kind=KIND, version=SCHEMA_VERSION)
    found = validated(_Document, data, name).provenance
    runs = tuple(SourceRun(run.command, run.steps, run.versions) for run in found.runs)
    return Provenance(found.created, found.traincheck, runs)


def parse_invariants(text: str, name: str) -> list[Invariant]:
    """The invariants in ``text``; ``name`` is what errors call it. Raises :class:`DocumentError`."""
    data = parse(text, name)
    check_header(data, name, kind=KIND, version=SCHEMA_VERSION)
    return invariants_of(validated(_Document, data, name).invariants, name)


def invariants_of(entries: Sequence[InvariantDocument], name: str) -> list[Invariant]:
    """The values that the ``entries`` of the document ``name`` stand for. Raises :class:`DocumentError`."""
    found: dict[str, Invariant] = {}
    for index, entry in enumerate(entries):
        place = f"{name}: invariants[{index}]"
        if entry.id in found:
            raise DocumentError(f"{place} repeats the id {entry.id!r}; an invariant stands in a file once")
        try:
            found[entry.id] = entry.invariant
        except ValueError as error:
            raise DocumentError(f"{place}{error}") from error
    return list(found.values())


def check_subject(name: str, subject: Mapping[str, Value]) -> None:
    """Raises ``ValueError`` unless there is a relation of this name and the subject has its fields."""
    known = {relation.name: relation for relation in relations.RELATIONS}
    if name not in known:
        raise ValueError(f".relation: there is no relation {name!r:.80}; there are {', '.join(sorted(known))}")
    types = _field_types(known[name].subject_type)
    for field_name in subject:
        if field_name not in types:
            raise ValueError(f".subject.{field_name:.80}: unknown field; {name} has {', '.join(types)}")
    for field_name, (adapter, required) in types.items():
        if field_name in subject:
            try:
                adapter.validate_python(subject[field_name])
            except ValidationError as error:
                raise ValueError(f".subject.{field_name}: {first_fault(error)}") from error
        elif required:
            raise ValueError(f".subject.{field_name}: this field is missing")
    try:
        typed = known[name].subject_type(**subject)
        known[name].describe(typed), known[name].needs(typed)
    except (KeyError, ValueError) as error:
        raise ValueError(f".subject: not a subject that {name} knows ({error})") from error


@lru_cache(maxsize=64)
def _field_types(subject_type: type) -> dict[str, tuple[TypeAdapter[Any], bool]]:
    """For each field of a subject what checks its type, and whether it must be there."""
    hints = typing.get_type_hints(subject_type)
    return {
        member.name: (
            TypeAdapter(hints[member.name], config={"strict": True}),
            member.default is dataclasses.MISSING and member.default_factory is dataclasses.MISSING,
        )
        for member in dataclasses.fields(subject_type)
    }


def save_invariants(path: Path, invariants: Sequence[Invariant], provenance: Provenance) -> None:
    """Write the file at ``path``: all of it or nothing. Raises :class:`DocumentError`."""
    write_text(path, dump_invariants(invariants, provenance))


def dump_invariants(invariants: Sequence[Invariant], provenance: Provenance) -> str:
    """The document as text: equal input gives equal text."""
    document = {
        "schema_version": SCHEMA_VERSION,
        "kind": KIND,
        "provenance": {
            "created": provenance.created,
            "traincheck": provenance.traincheck,
            "runs": [
                {"command": run.command, "steps": run.steps, "versions": dict(sorted(run.versions.items()))}
                for run in provenance.runs
            ],
        },
        "invariants": [invariant_data(invariant) for invariant in invariants],
    }
    return json.dumps(document, indent=2, allow_nan=False) + "\n"


def invariant_data(invariant: Invariant) -> dict[str, object]:
    """An invariant as JSON-ready data; :class:`InvariantDocument` reads it back."""
    data: dict[str, object] = {
        "id": invariant.id,
        "relation": invariant.relation,
        "subject": {name: to_json(value) for name, value in sorted(invariant.subject.items())},
        "precondition": [
            [{"field": clause.field, "test": clause.test, "value": to_json(clause.value)} for clause in conjunction]
            for conjunction in invariant.precondition.conjunctions
        ],
        "domain": {name: [to_json(value) for value in values] for name, values in sorted(invariant.domain.items())},
        "evidence": dataclasses.asdict(invariant.evidence),
        "text": invariant.text,
    }
    if invariant.curation:
        data["curation"] = dataclasses.asdict(invariant.curation)
    if invariant.priority is not None:
        data["priority"] = invariant.priority
    return data
