"""The relations: one class in one file each, and one line here."""

from __future__ import annotations

from typing import Any, Final

from traincheck.relations.api_arg import APIArg
from traincheck.relations.api_output import APIOutput
from traincheck.relations.api_sequence import APISequence
from traincheck.relations.cadence import Cadence
from traincheck.relations.consistent import Consistent
from traincheck.relations.contract import Example, Memory, Needs, Relation
from traincheck.relations.event_contain import EventContain
from traincheck.relations.membership import Membership

RELATIONS: Final[tuple[Relation[Any], ...]] = (
    EventContain(),
    APIArg(),
    APIOutput(),
    Cadence(),
    Membership(),
    APISequence(),
    Consistent(),
)
"""In an order in which every second one together takes about half of the time, and looks up the same things: so they
are shared out."""


def by_name(name: str) -> Relation[Any]:
    """The relation of that name. Raises ``KeyError`` with the names that exist."""
    for relation in RELATIONS:
        if relation.name == name:
            return relation
    raise KeyError(f"no relation {name!r}; there are {', '.join(relation.name for relation in RELATIONS)}")


__all__ = ["RELATIONS", "Example", "Memory", "Needs", "Relation", "by_name"]
