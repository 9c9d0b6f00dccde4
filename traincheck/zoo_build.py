"""``python -m traincheck.zoo_build NAME``: infers a pack of the zoo again, from the recipes that it rests on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Final, Literal, NoReturn

import typer
from pydantic import Field

from traincheck import __version__
from traincheck.cli import new_app, run
from traincheck.errors import UserError
from traincheck.gathering import Processes
from traincheck.infer import Inference, infer
from traincheck.invariant import Invariant
from traincheck.invariant_file import Provenance, SourceRun, dump_invariants, load_invariants
from traincheck.json_file import Strict, check_header, parse, read_text, validated, write_text
from traincheck.values import to_json
from traincheck.zoo import (
    CURATION_NAME,
    INVARIANTS_NAME,
    PACK_KIND,
    PACK_NAME,
    SCHEMA_VERSION,
    CurationEntry,
    Recipe,
    curated,
    read_curation,
    read_index,
    subject_key,
)

NAME: Final = "zoo_build"
RECIPES_NAME: Final = "zoo.json"
RECIPES_KIND: Final = "traincheck-zoo-recipes"
RUNS_AT_A_TIME: Final = 2
TIMEOUT_S: Final = 600
LINES_OF_A_FAILURE: Final = 8

COLLECT: Final = (sys.executable, "-c", "from traincheck.cli.collect import main; main()")

app = new_app()


class _Recipes(Strict):
    """``zoo.json``: the runs that a pack is inferred from, and the versions that it is meant for."""

    schema_version: int
    kind: Literal["traincheck-zoo-recipes"]
    pack_version: str
    builds_on: list[str] = Field(default_factory=list)
    """Packs whose recipes are evidence for this one too, and whose curation it takes over, as ``pytorch``."""
    versions: dict[str, str]
    runs: list[Recipe] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class Build:
    """A pack as it was just inferred."""

    folder: Path
    inference: Inference
    entries: list[CurationEntry]
    recipes: _Recipes

    @property
    def kept(self) -> list[Invariant]:
        """The curated ones, as they are written: the curation itself stays in its own file."""
        order = {
            invariant.id: place for place, invariant in enumerate(curated(self.inference.invariants, self.entries))
        }
        return sorted(
            (invariant for invariant in self.inference.invariants if invariant.id in order),
            key=lambda invariant: order[invariant.id],
        )

    @property
    def not_inferred(self) -> list[CurationEntry]:
        """Curated entries that the recipes no longer teach."""
        taught = {subject_key(invariant.relation, invariant.subject) for invariant in self.inference.invariants}
        return [entry for entry in self.entries if entry.key not in taught]

    @property
    def candidates(self) -> list[Invariant]:
        """What was inferred and nobody has curated."""
        known = {entry.key for entry in self.entries}
        return [
            invariant
            for invariant in self.inference.invariants
            if subject_key(invariant.relation, invariant.subject) not in known
        ]


@app.command(
    epilog="Exit status: 0; 1 when --check found differences or a curated entry was not inferred; 2 on errors."
)
def zoo_build(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The pack, such as pytorch.")],
    recipes: Annotated[Path, typer.Option(metavar="DIR", help="Where the recipes are.")] = Path("recipes"),
    zoo: Annotated[Path, typer.Option(metavar="DIR", help="Where the packs are.")] = Path("invariants_zoo"),
    traces: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep the traces here, and record only those that are missing.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; compare with the pack that is there.")] = False,
    candidates: Annotated[
        bool, typer.Option("--candidates", help="List what was inferred and is not curated yet.")
    ] = False,
) -> None:
    """Run the recipes of a pack, infer from them, and write what people have curated."""
    build = _build(name, recipes / name, zoo / name, traces)
    failed = _told(build.not_inferred)
    if candidates:
        print("\n".join(_candidate(invariant) for invariant in build.candidates))
    if check:
        failed |= _differs(build)
    else:
        _write(name, build)
    raise typer.Exit(1 if failed else 0)


def _build(name: str, recipes_folder: Path, zoo_folder: Path, kept: Path | None) -> Build:
    recipes = _read_recipes(recipes_folder)
    folders = {base: recipes_folder.parent / base for base in recipes.builds_on} | {name: recipes_folder}
    entries: list[CurationEntry] = []
    traces: list[Path] = []
    with tempfile.TemporaryDirectory(prefix="traincheck-zoo-") as scratch:
        for part, source in folders.items():
            of_part = _read_recipes(source)
            pack = zoo_folder.parent / part / of_part.pack_version
            entries += read_curation(pack) if (pack / CURATION_NAME).exists() else []
            traces += _record(of_part.runs, source.resolve(), (kept or Path(scratch)).resolve() / part)
        engine = Processes(RUNS_AT_A_TIME)
        # A person judges what one program shows.
        inference = infer([str(trace) for trace in traces], engine=engine, least_programs=1)
    print(f"{name}: inferred {len(inference.invariants)} invariants from {len(traces)} runs")
    return Build(zoo_folder / recipes.pack_version, inference, entries, recipes)


def _read_recipes(folder: Path) -> _Recipes:
    path = folder / RECIPES_NAME
    data = parse(read_text(path), str(path))
    check_header(data, str(path), kind=RECIPES_KIND, version=SCHEMA_VERSION)
    return validated(_Recipes, data, str(path))


def _record(runs: Sequence[Recipe], folder: Path, into: Path) -> list[Path]:
    traces = [into / f"{number:02d}-{Path(run.recipe).stem}" for number, run in enumerate(runs)]
    missing = [(run, trace) for run, trace in zip(runs, traces, strict=True) if not trace.exists()]
    with ThreadPoolExecutor(RUNS_AT_A_TIME) as pool:
        list(pool.map(lambda job: _record_one(job[0], folder, job[1]), missing))
    return traces


def _record_one(recipe: Recipe, folder: Path, trace: Path) -> None:
    unfinished = trace.with_name(f"{trace.name}.partial")
    shutil.rmtree(unfinished, ignore_errors=True)
    command = [*COLLECT, "-o", str(unfinished), "--", sys.executable, recipe.recipe, *recipe.args]
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    told = " ".join([recipe.recipe, *recipe.args])
    if done.returncode:
        last = " | ".join(done.stderr.strip().splitlines()[-LINES_OF_A_FAILURE:])
        raise UserError(f"the recipe {told} failed with status {done.returncode}: {last}")
    unfinished.rename(trace)
    print(f"  recorded {told}", flush=True)


def _told(entries: Sequence[CurationEntry]) -> bool:
    for entry in entries:
        print(f"not inferred: {entry.code} {entry.title}: {entry.relation} {_subject(entry.subject)}")
    return bool(entries)


def _candidate(invariant: Invariant) -> str:
    evidence = invariant.evidence
    return (
        f"{invariant.text}\n    {invariant.relation} {_subject(invariant.subject)}\n"
        f"    {evidence.steps} steps, {evidence.runs} runs, {evidence.programs} programs, {evidence.excluded} excluded"
    )


def _subject(subject: object) -> str:
    assert isinstance(subject, dict)
    return json.dumps({name: to_json(value) for name, value in subject.items()})


def _differs(build: Build) -> bool:
    """Compare ids with the pack on disk, and say what differs."""
    there = {invariant.id: invariant for invariant in load_invariants(build.folder / INVARIANTS_NAME)}
    here = {invariant.id: invariant for invariant in build.kept}
    for gone in there.keys() - here.keys():
        print(f"in the pack, not inferred now: {gone} {there[gone].text}")
    for new in here.keys() - there.keys():
        print(f"inferred now, not in the pack: {new} {here[new].text}")
    return there.keys() != here.keys()


def _write(name: str, build: Build) -> None:
    """Write the pack. Its date stays as long as its invariants do, so that the same recipes give the same files."""
    build.folder.mkdir(parents=True, exist_ok=True)
    runs = build.inference.runs
    created = _created(build)
    provenance = Provenance(
        created, __version__, tuple(SourceRun(run.program, run.steps, dict(run.versions)) for run in runs)
    )
    index = {
        "schema_version": SCHEMA_VERSION,
        "kind": PACK_KIND,
        "framework": name,
        "version": build.recipes.pack_version,
        "created": created,
        "builds_on": build.recipes.builds_on,
        "recipes": [recipe.model_dump() for recipe in build.recipes.runs],
        "inferred_with": {package: version for run in runs for package, version in run.versions},
        "versions": build.recipes.versions,
    }
    write_text(build.folder / INVARIANTS_NAME, dump_invariants(build.kept, provenance))
    write_text(build.folder / PACK_NAME, json.dumps(index, indent=2) + "\n")
    print(f"wrote {len(build.kept)} curated invariants to {build.folder}")


def _created(build: Build) -> str:
    if (build.folder / PACK_NAME).exists() and (build.folder / INVARIANTS_NAME).exists():
        there = {invariant.id for invariant in load_invariants(build.folder / INVARIANTS_NAME)}
        if there == {invariant.id for invariant in build.kept}:
            return read_index(build.folder).created
    return datetime.now(timezone.utc).date().isoformat()


def main() -> NoReturn:
    """The entry point."""
    run(app, NAME)


if __name__ == "__main__":
    main()
