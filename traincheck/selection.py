"""Which invariants a run is checked against: packs and files, and of them the codes that were chosen."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, TypeVar

from traincheck.invariant import Invariant
from traincheck.invariant_file import load_invariants
from traincheck.zoo import explained, fits, load_pack

Sources: TypeAlias = "str | os.PathLike[str] | Sequence[str | os.PathLike[str] | Invariant]"

T = TypeVar("T", bound="str | os.PathLike[str] | Invariant")


@dataclass(frozen=True, slots=True)
class Selection:
    """What to check, and what the reader must know about it."""

    invariants: tuple[Invariant, ...]
    notes: tuple[str, ...] = ()


def gather(
    zoo: str | Sequence[str] | None,
    sources: Sources | None,
    *,
    select: str | Sequence[str] | None = None,
    ignore: str | Sequence[str] | None = None,
    versions: Mapping[str, str] | None = None,
) -> Selection:
    """The invariants of the packs and of the files, each once.

    Raises :class:`traincheck.errors.UserError` for packs and files that cannot be read, ``ValueError`` when there is
    nothing to check or a code does not exist.
    """
    packs = [load_pack(name) for name in _listed(zoo)]
    found = [invariant for pack in packs for invariant in pack.invariants]
    for source in _listed(sources):
        found += explained([source] if isinstance(source, Invariant) else load_invariants(Path(source)))
    if not found:
        raise ValueError(
            "there is nothing to check: name a pack of the zoo, such as pytorch, or a file of traincheck-infer"
        )
    unique = list({invariant.id: invariant for invariant in reversed(found)}.values())[::-1]
    notes = [note for pack in packs if (note := fits(pack, versions or {})) is not None]
    return Selection(tuple(chosen(unique, _listed(select), _listed(ignore))), tuple(notes))


def chosen(invariants: Sequence[Invariant], select: Iterable[str], ignore: Iterable[str]) -> list[Invariant]:
    """Those whose code begins with one of ``select`` (all, without any) and with none of ``ignore``."""
    select, ignore = tuple(select), tuple(ignore)
    codes = sorted({invariant.code for invariant in invariants})
    for prefix in (*select, *ignore):
        if not any(code.startswith(prefix) for code in codes):
            raise ValueError(f"no invariant has a code that begins with {prefix!r}; there are {', '.join(codes)}")
    return [
        invariant
        for invariant in invariants
        if (not select or invariant.code.startswith(select)) and not (ignore and invariant.code.startswith(ignore))
    ]


def _listed(given: T | Sequence[T] | None) -> Sequence[T]:
    if given is None:
        return ()
    if isinstance(given, (str, os.PathLike, Invariant)):
        return (given,)
    return tuple(given)
