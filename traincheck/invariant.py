"""An invariant: a hypothesis with its precondition and its evidence, as data that can be written, read and shared."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from traincheck.precondition import Precondition
from traincheck.values import Value, identity, to_json

Severity: TypeAlias = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What an invariant rests on."""

    examples: int
    """Passing examples within the precondition."""
    steps: int
    """Distinct steps among them: the independent observations."""
    runs: int
    """Distinct runs among them."""
    programs: int
    """Distinct programs (commands) among the runs."""
    confidence: float
    """One minus the chance that it held by accident."""
    excluded: int = 0
    """Failing examples that the precondition keeps out."""


@dataclass(frozen=True, slots=True)
class Curation:
    """What a person added to an invariant of the zoo."""

    code: str
    title: str
    severity: Severity
    why_silent: str
    fix: str


@dataclass(frozen=True, slots=True)
class Invariant:
    """A relation over a subject that holds whenever its precondition does."""

    relation: str
    subject: Mapping[str, Value]
    precondition: Precondition
    text: str
    """The whole statement as one sentence."""
    evidence: Evidence
    domain: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    """For each context field the values that the evidence saw: outside of it the invariant abstains."""
    curation: Curation | None = None
    priority: int | None = None
    """Place in its pack, from causes to consequences: who gives the finding its name."""

    @property
    def id(self) -> str:
        """Digest of relation, subject and precondition: never of counts or text, so that suppressions last."""
        return digest(self.relation, self.subject, self.precondition)

    @property
    def code(self) -> str:
        """Its zoo code (``OPT001``), or its id for an invariant of the user's own."""
        return self.curation.code if self.curation else self.id

    @property
    def title(self) -> str:
        """A short name for reports."""
        return self.curation.title if self.curation else self.text

    def knows(self, context: Mapping[str, Value]) -> bool:
        """Whether the evidence saw every value of this context: an invariant does not judge what it never saw."""
        return all(
            name not in self.domain or identity(value) in map(identity, self.domain[name])
            for name, value in context.items()
        )


def digest(relation: str, subject: Mapping[str, Value], precondition: Precondition) -> str:
    """Twelve hexadecimal digits that name an invariant for ever."""
    document = {
        "relation": relation,
        "subject": {name: to_json(value) for name, value in sorted(subject.items())},
        "precondition": [
            [[clause.field, clause.test, to_json(clause.value)] for clause in conjunction]
            for conjunction in precondition.conjunctions
        ],
    }
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:12]
