"""What a user may choose wherever a training is watched: the same options for ``watch`` and for every adapter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from traincheck.governor import Governor
from traincheck.reaction import OnViolation, Reaction
from traincheck.selection import Selection, Sources, gather

DEFAULT_OVERHEAD: Final = 0.02


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to check, how thoroughly, and how to answer.

    ``zoo`` names packs, ``invariants`` files (or invariants themselves); ``select`` and ``ignore`` are codes or their
    beginnings. ``overhead`` is the allowed cost as a fraction of step time, ``None`` for every step whatever it costs.
    ``report`` is a directory for the HTML report.
    """

    zoo: str | Sequence[str] | None
    invariants: Sources | None = None
    on_violation: OnViolation = "warn"
    select: str | Sequence[str] | None = None
    ignore: str | Sequence[str] | None = None
    overhead: float | None = DEFAULT_OVERHEAD
    report: str | Path | None = None

    def validate(self) -> None:
        """Raise ``ValueError`` for an option that does not exist, before any training has begun."""
        Reaction(self.on_violation)
        Governor(self.overhead)

    def gathered(self, versions: Mapping[str, str]) -> Selection:
        """The invariants that they choose.

        Raises ``ValueError`` for a code that does not exist and when there is nothing to check;
        :class:`traincheck.errors.UserError` for packs and files that cannot be read.
        """
        return gather(self.zoo, self.invariants, select=self.select, ignore=self.ignore, versions=versions)

    def plain(self) -> dict[str, Any]:
        """Those that JSON can hold: not functions, not invariants."""
        return {field.name: value for field in fields(self) if _is_plain(value := getattr(self, field.name))}


def _is_plain(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return all(isinstance(item, str) for item in value)
    return value is None or isinstance(value, (str, int, float))
