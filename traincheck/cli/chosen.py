"""Which invariants a check is about: packs of the zoo and files, narrowed to the codes that were asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

from traincheck.errors import UserError
from traincheck.invariant import Invariant
from traincheck.invariant_file import load_invariants
from traincheck.selection import gather
from traincheck.zoo import explain, load_pack, pack_names

CORE: Final = "pytorch"
"""The pack for runs whose framework has none of its own."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """What the options ``--zoo``, ``-i``, ``--select`` and ``--ignore`` say."""

    zoo: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()

    def for_run(self, framework: str, versions: Mapping[str, str]) -> tuple[list[Invariant], list[str]]:
        """The invariants for a run of ``framework``, and what the reader must know of them."""
        try:
            found = gather(
                self._packs(framework), self.files, select=self.select, ignore=self.ignore, versions=versions
            )
        except ValueError as error:
            raise UserError(str(error)) from error
        return list(found.invariants), list(found.notes)

    def explain(self, code: str) -> tuple[Invariant, ...]:
        """The invariants of this code, in the files and else in the zoo. Raises :class:`UserError`."""
        own = [invariant for path in self.files for invariant in load_invariants(path)]
        found = tuple(invariant for invariant in own if invariant.code.lower() == code.lower())
        return found or explain(code)

    def installed_versions(self) -> dict[str, str]:
        """The versions in this environment of the packages that the named packs speak of."""
        names = {package for name in self._packs(CORE) for package in load_pack(name).index.versions}
        return {name: version for name in sorted(names) if (version := _installed(name))}

    def _packs(self, framework: str) -> Sequence[str]:
        if self.zoo or self.files:
            return self.zoo
        known = {name.partition("@")[0] for name in pack_names()}
        return (framework if framework in known else CORE,)


def _installed(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
