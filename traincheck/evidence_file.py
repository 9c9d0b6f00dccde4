"""The evidence beside a file of invariants: what lets further traces be merged in without reading the old ones again.

``invariants.evidence.json.gz`` lies beside ``invariants.json``. It is one JSON document, data only, compressed:

    schema_version, kind ("traincheck-evidence"), traincheck (the version that gathered it), groups

A group is what is held out at a time (:mod:`traincheck.held_out`), so they are few: ``runs`` (``name``,
``program``, ``steps``, ``events``, ``versions``, ``identity``) and ``cases``, one for each hypothesis: ``relation``,
``subject``, ``runs``, ``programs``, ``given_up``, ``places`` (first failures: ``run``, ``step``, ``rank``, ``seen``)
and ``contexts``, each ``fields`` with the counts ``passing``, ``failing``, ``passing_steps``, ``failing_steps`` and
``own_steps``. Values are written as in a trace: a list is a tuple, and ``{"$float": "nan"}`` is what JSON cannot say.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from traincheck import __version__
from traincheck.evidence import MAX_CONTEXTS, MAX_PLACES, Case, Hypothesis, Place, Run, Summary, Tally
from traincheck.invariant_file import RecordedValue, check_subject
from traincheck.json_file import DocumentError, Strict, check_header, parse, validated, write_bytes
from traincheck.relations import by_name
from traincheck.values import Fields, fields, to_json

SCHEMA_VERSION: Final = 1
KIND: Final = "traincheck-evidence"
SUFFIX: Final = ".evidence.json.gz"

MAX_SIZE_BYTES: Final = 512 * 1024 * 1024
"""More than this, uncompressed, is neither written nor read. Sixty-four runs of a small CNN take two."""

Count = Annotated[int, Field(ge=0)]


class _Run(Strict):
    name: str
    program: str
    steps: Count
    events: Count
    versions: dict[str, str]
    identity: str

    @property
    def run(self) -> Run:
        return Run(self.name, self.program, self.steps, self.events, _versions(self.versions), self.identity)


class _Place(Strict):
    run: str
    step: int
    rank: int
    seen: str


class _Context(Strict):
    fields: dict[str, RecordedValue]
    passing: Count
    failing: Count
    passing_steps: Count
    failing_steps: Count
    own_steps: Count
    programs: list[str]


class _Case(Strict):
    relation: str
    subject: dict[str, RecordedValue]
    runs: Count
    programs: list[str]
    given_up: bool
    places: list[_Place] = Field(max_length=MAX_PLACES)
    contexts: list[_Context] = Field(max_length=MAX_CONTEXTS)

    @property
    def hypothesis(self) -> Hypothesis:
        """What it is evidence on. Raises ``ValueError`` where no relation knows it."""
        check_subject(self.relation, self.subject)
        return self.relation, by_name(self.relation).subject_type(**self.subject)

    @property
    def case(self) -> Case:
        """The evidence."""
        return Case(
            contexts={fields(context.fields): _tally(context) for context in self.contexts},
            places=[Place(**place.model_dump()) for place in self.places],
            runs=self.runs,
            programs=frozenset(self.programs),
            given_up=self.given_up,
        )


class _Group(Strict):
    runs: list[_Run] = Field(min_length=1)
    cases: list[_Case]


class _Document(Strict):
    schema_version: int
    kind: Literal["traincheck-evidence"]
    traincheck: str
    groups: list[_Group]


def evidence_path(invariants: Path) -> Path:
    """Where the evidence of the file ``invariants`` lies."""
    return invariants.with_name(f"{invariants.stem}{SUFFIX}")


def save_evidence(path: Path, groups: Sequence[Summary]) -> None:
    """Write the file at ``path``, or nothing; equal input gives equal bytes. Raises :class:`DocumentError`."""
    document = {
        "schema_version": SCHEMA_VERSION,
        "kind": KIND,
        "traincheck": __version__,
        "groups": [_group_data(group) for group in groups],
    }
    text = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
    if len(text) > MAX_SIZE_BYTES:
        raise DocumentError(f"{path} is not written: the evidence is larger than {MAX_SIZE_BYTES // 2**20} MB")
    write_bytes(path, gzip.compress(text, mtime=0))


def load_evidence(path: Path) -> list[Summary]:
    """The evidence in the file at ``path``. Raises :class:`DocumentError` naming the place."""
    name = str(path)
    data = parse(_read(path), name)
    check_header(data, name, kind=KIND, version=SCHEMA_VERSION)
    document = validated(_Document, data, name)
    if document.traincheck != __version__:
        raise DocumentError(
            f"{name} was gathered by traincheck {document.traincheck}, and this is {__version__}, whose relations may "
            "look at other things: infer once from all traces again"
        )
    return [_summary(group, f"{name}: groups[{number}]") for number, group in enumerate(document.groups)]


def _read(path: Path) -> str:
    try:
        with gzip.open(path, "rb") as file:
            text = file.read(MAX_SIZE_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DocumentError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if len(text) > MAX_SIZE_BYTES:
        raise DocumentError(f"{path} is larger than {MAX_SIZE_BYTES // 2**20} MB uncompressed")
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DocumentError(f"{path} is not UTF-8 text (at byte {error.start}); expected a JSON document") from error


def _summary(group: _Group, name: str) -> Summary:
    cases: dict[Hypothesis, Case] = {}
    for number, entry in enumerate(group.cases):
        try:
            hypothesis = entry.hypothesis
        except ValueError as error:
            raise DocumentError(f"{name}.cases[{number}]{error}") from error
        if hypothesis in cases:
            raise DocumentError(f"{name}.cases[{number}] repeats a hypothesis; each stands in a group once")
        cases[hypothesis] = entry.case
    return Summary(cases, tuple(sorted(entry.run for entry in group.runs)))


def _tally(context: _Context) -> Tally:
    return Tally(**context.model_dump(exclude={"fields", "programs"}), programs=frozenset(context.programs))


def _versions(versions: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(versions.items()))


def _group_data(group: Summary) -> dict[str, Any]:
    cases = sorted(group.cases.items(), key=lambda item: repr(item[0]))
    return {
        "runs": [{**asdict(run), "versions": dict(run.versions)} for run in group.runs],
        "cases": [_case_data(hypothesis, case) for hypothesis, case in cases],
    }


def _case_data(hypothesis: Hypothesis, case: Case) -> dict[str, Any]:
    relation, subject = hypothesis
    return {
        "relation": relation,
        "subject": {name: to_json(value) for name, value in asdict(subject).items()},
        "runs": case.runs,
        "programs": sorted(case.programs),
        "given_up": case.given_up,
        "places": [asdict(place) for place in case.places],
        "contexts": [
            _context_data(context, tally)
            for context, tally in sorted(case.contexts.items(), key=lambda item: repr(item[0]))
        ],
    }


def _context_data(context: Fields, tally: Tally) -> dict[str, Any]:
    named = {name: to_json(value) for name, value in context}
    return {"fields": named, **asdict(tally), "programs": sorted(tally.programs)}
