"""The zoo: packs of inferred invariants that come with TrainCheck, one per framework and version of the pack."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version
from pydantic import AfterValidator, BeforeValidator, Field

from traincheck.errors import UserError
from traincheck.invariant import Curation, Invariant, Severity
from traincheck.invariant_file import check_subject, parse_invariants
from traincheck.json_file import DocumentError, Strict, check_header, parse, validated
from traincheck.values import Value, from_json, identity

if TYPE_CHECKING:
    from importlib.abc import Traversable  # importlib.resources.abc only from Python 3.11 on

PACKAGE: Final = "traincheck.invariants_zoo"
SCHEMA_VERSION: Final = 1
PACK_KIND: Final = "traincheck-pack"
CURATION_KIND: Final = "traincheck-curation"

INVARIANTS_NAME: Final = "invariants.json"
CURATION_NAME: Final = "curation.json"
PACK_NAME: Final = "pack.json"

BASE: Final = "pytorch"
"""The pack that the others build on: what it says of an invariant comes first."""

SubjectKey = tuple[str, Any]
"""Relation and subject: what a curation is keyed by."""


def _version_range(text: str) -> str:
    try:
        SpecifierSet(text)
    except InvalidSpecifier as error:
        raise ValueError(f"{text!r} is not a range of versions such as '>=2.0'") from error
    return text


class Recipe(Strict):
    """A run of a reference pipeline that a pack was inferred from."""

    recipe: str
    args: list[str] = Field(default_factory=list)


class PackIndex(Strict):
    """``pack.json``: what a pack was inferred from, and where it holds."""

    schema_version: int
    kind: Literal["traincheck-pack"]
    framework: str
    version: str
    created: str
    """The day on which its invariants last changed: ISO 8601."""
    builds_on: list[str] = Field(default_factory=list)
    """Packs whose recipes were evidence for this one too, and whose curation it takes over."""
    recipes: list[Recipe]
    inferred_with: dict[str, str]
    versions: dict[str, Annotated[str, AfterValidator(_version_range)]]
    """For each package the versions that the pack holds for."""


class CurationEntry(Strict):
    """One invariant of ``curation.json``."""

    relation: str
    subject: dict[str, Annotated[Any, BeforeValidator(from_json)]]
    code: str = Field(min_length=1)
    title: str = Field(min_length=1)
    severity: Severity
    why_silent: str = Field(min_length=1)
    fix: str = Field(min_length=1)

    @property
    def key(self) -> SubjectKey:
        """Which invariants it speaks of."""
        return subject_key(self.relation, self.subject)

    @property
    def curation(self) -> Curation:
        """As the value that invariants carry."""
        return Curation(self.code, self.title, self.severity, self.why_silent, self.fix)


class _CurationDocument(Strict):
    schema_version: int
    kind: Literal["traincheck-curation"]
    invariants: list[CurationEntry]
    """From causes to consequences: what several violations are named after is the first of them."""


@dataclass(frozen=True, slots=True)
class Pack:
    """Curated invariants, and what they hold for."""

    index: PackIndex
    invariants: tuple[Invariant, ...]

    @property
    def name(self) -> str:
        """``pytorch@0.1``."""
        return f"{self.index.framework}@{self.index.version}"


def installed() -> Traversable:
    """The folder of the packs that are installed."""
    return files(PACKAGE)


def pack_names(root: Traversable | None = None) -> tuple[str, ...]:
    """Every pack as ``framework@version``, the newest of each framework first."""
    return tuple(f"{framework}@{version}" for framework, versions in _packs(root).items() for version in versions)


def load_pack(name: str, root: Traversable | None = None) -> Pack:
    """The pack ``pytorch`` (its newest version) or ``pytorch@0.1``. Raises :class:`UserError` listing what exists."""
    framework, _, version = name.partition("@")
    packs = _packs(root)
    if framework not in packs or (version and version not in packs[framework]):
        known = ", ".join(pack_names(root)) or "none"
        raise UserError(f"there is no zoo pack {name!r:.80}; there are: {known}")
    folder = (root or installed()) / framework / (version or packs[framework][0])
    index = read_index(folder)
    if (index.framework, index.version) != (framework, folder.name):
        raise DocumentError(f"{folder / PACK_NAME} says that it is {index.framework}@{index.version}")
    invariants = parse_invariants(_read(folder, INVARIANTS_NAME), str(folder / INVARIANTS_NAME))
    curation = [entry for base in index.builds_on for entry in _newest_curation(base, packs, root)]
    return Pack(index, tuple(curated(invariants, [*curation, *read_curation(folder)])))


def _newest_curation(name: str, packs: Mapping[str, Sequence[str]], root: Traversable | None) -> list[CurationEntry]:
    if name not in packs:
        raise DocumentError(f"a zoo pack builds on {name!r:.80}, which is not installed")
    return read_curation((root or installed()) / name / packs[name][0])


def read_index(folder: Traversable) -> PackIndex:
    """``pack.json`` of a pack. Raises :class:`DocumentError`."""
    name = str(folder / PACK_NAME)
    data = parse(_read(folder, PACK_NAME), name)
    check_header(data, name, kind=PACK_KIND, version=SCHEMA_VERSION)
    return validated(PackIndex, data, name)


def read_curation(folder: Traversable) -> list[CurationEntry]:
    """``curation.json`` of a pack. Raises :class:`DocumentError`."""
    name = str(folder / CURATION_NAME)
    data = parse(_read(folder, CURATION_NAME), name)
    check_header(data, name, kind=CURATION_KIND, version=SCHEMA_VERSION)
    entries = validated(_CurationDocument, data, name).invariants
    seen: set[SubjectKey] = set()
    for index, entry in enumerate(entries):
        try:
            check_subject(entry.relation, entry.subject)
        except ValueError as error:
            raise DocumentError(f"{name}: invariants[{index}]{error}") from error
        if entry.key in seen:
            raise DocumentError(f"{name}: invariants[{index}] repeats the relation and subject of another")
        seen.add(entry.key)
    return entries


def _read(folder: Traversable, name: str) -> str:
    try:
        return (folder / name).read_text("utf-8")
    except OSError as error:
        raise DocumentError(f"{folder / name} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DocumentError(f"{folder / name} is not UTF-8 text") from error


def curated(invariants: Sequence[Invariant], entries: Sequence[CurationEntry]) -> list[Invariant]:
    """Those of the invariants that a person has taken in, in the order of the curation."""
    places = {entry.key: place for place, entry in enumerate(entries)}
    kept = [
        replace(invariant, curation=entries[place].curation, priority=place)
        for invariant in invariants
        if (place := places.get(subject_key(invariant.relation, invariant.subject))) is not None
    ]
    return sorted(kept, key=lambda invariant: (invariant.priority or 0, invariant.id))


def explained(invariants: Sequence[Invariant], root: Traversable | None = None) -> list[Invariant]:
    """The invariants, those without a curation with what the zoo says of the same relation and subject."""
    known = {subject_key(invariant.relation, invariant.subject): invariant for invariant in [*_newest(root)][::-1]}
    found = []
    for invariant in invariants:
        twin = known.get(subject_key(invariant.relation, invariant.subject))
        if invariant.curation is None and twin is not None:
            invariant = replace(invariant, curation=twin.curation, priority=twin.priority)
        found.append(invariant)
    return found


def subject_key(relation: str, subject: Mapping[str, Value]) -> SubjectKey:
    """What an invariant and its curation have in common."""
    return relation, tuple((name, identity(value)) for name, value in sorted(subject.items()))


def fits(pack: Pack, versions: Mapping[str, str]) -> str | None:
    """A sentence for the reader when a run with these versions lies outside of what the pack holds for."""
    for package, allowed in pack.index.versions.items():
        found = versions.get(package)
        if found is not None and not _within(found, allowed):
            return f"The zoo pack {pack.name} holds for {package} {allowed}; this run has {package} {found}."
    return None


def _within(found: str, allowed: str) -> bool:
    try:
        return SpecifierSet(allowed).contains(Version(found), prereleases=True)
    except InvalidVersion:
        return True


def all_codes(root: Traversable | None = None) -> tuple[str, ...]:
    """The codes of the newest version of every pack."""
    return tuple(sorted({invariant.code for invariant in _newest(root)}))


def explain(code: str, root: Traversable | None = None) -> tuple[Invariant, ...]:
    """The invariants of this code in the newest packs. Raises :class:`UserError` with the nearest codes."""
    named = [invariant for invariant in _newest(root) if invariant.code.lower() == code.lower()]
    # Several packs may have inferred it, each from its own runs.
    found = {subject_key(invariant.relation, invariant.subject): invariant for invariant in reversed(named)}
    if found:
        return tuple(found.values())[::-1]
    codes = all_codes(root)
    near = difflib.get_close_matches(code.upper(), codes, n=5, cutoff=0.5)
    hint = f"nearest: {', '.join(near)}" if near else f"there are: {', '.join(codes) or 'none'}"
    raise UserError(f"no invariant of the zoo has the code {code!r:.40}; {hint}")


def _newest(root: Traversable | None) -> Iterator[Invariant]:
    packs = _packs(root)
    for framework in sorted(packs, key=lambda name: (name != BASE, name)):
        yield from load_pack(framework, root).invariants


def _packs(root: Traversable | None) -> dict[str, list[str]]:
    """For each framework the versions of its packs, the newest first."""
    found: dict[str, list[str]] = {}
    for framework in sorted((root or installed()).iterdir(), key=lambda folder: folder.name):
        if framework.is_dir():
            versions = [folder.name for folder in framework.iterdir() if _is_pack(folder)]
            if versions:
                found[framework.name] = sorted(versions, key=Version, reverse=True)
    return found


def _is_pack(folder: Traversable) -> bool:
    if not (folder.is_dir() and (folder / PACK_NAME).is_file()):
        return False
    try:
        Version(folder.name)
    except InvalidVersion:
        return False
    return True
