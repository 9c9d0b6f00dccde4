"""``traincheck-infer``: infers invariants from the traces of known-good runs."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer

from traincheck.cli import emit, new_app, run, tell
from traincheck.errors import UserError

if TYPE_CHECKING:
    from traincheck.evidence import Run, Summary
    from traincheck.gathering import Engine
    from traincheck.infer import Inference
    from traincheck.invariant_file import SourceRun

NAME: Final = "traincheck-infer"
DEFAULT_OUTPUT: Final = Path("invariants.json")

app = new_app()


class EngineName(str, Enum):
    """Who reads the traces."""

    PROCESSES = "processes"
    RAY = "ray"


@app.command(
    context_settings={"help_option_names": ["-h", "--help"]}, epilog="Exit status: 0, or 2 when there was an error."
)
def infer(
    traces: Annotated[
        list[str],
        typer.Argument(
            metavar="TRACE",
            help="Traces of known-good runs, from traincheck-collect: folders, or URLs such as s3://bucket/run1.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Default: the FILE of --update, or invariants.json."),
    ] = None,
    update: Annotated[
        Path | None,
        typer.Option(
            "--update",
            metavar="FILE",
            help="Merge the TRACEs into FILE, written by this command, as if it had read the old ones again. The"
            " evidence beside FILE (.evidence.json.gz) makes that possible.",
        ),
    ] = None,
    engine: Annotated[
        EngineName,
        typer.Option("--engine", help="Who reads the traces: processes of this machine, or a Ray cluster."),
    ] = EngineName.PROCESSES,
    jobs: Annotated[
        int | None,
        typer.Option(
            "-j",
            "--jobs",
            min=1,
            metavar="N",
            help="So many work at a time, also on one long trace; default: a core each.",
        ),
    ] = None,
    validate: Annotated[
        list[str] | None,
        typer.Option("--validate", metavar="TRACE", help="Drop what this further known-good run violates. Repeatable."),
    ] = None,
    why_not: Annotated[
        str | None,
        typer.Option(
            "--why-not",
            metavar="TEXT",
            help="Say why hypotheses whose sentence contains TEXT were dropped. Writes a file only with -o.",
        ),
    ] = None,
) -> None:
    """Infer invariants from TRACEs of known-good runs. With several, each is tried on what the others teach."""
    from traincheck.infer import infer as infer_traces

    known = _known(update) if update else ()
    with _progress() as progress:
        inference = infer_traces(
            traces, engine=_engine(engine, jobs), known=known, validate=validate or (), progress=progress
        )
    for trace in inference.repeated:
        tell(NAME, f"{trace} was given before: it counts once")
    if why_not is not None:
        emit(_reasons(inference, why_not))
    if why_not is None or output is not None:
        path = output or update or DEFAULT_OUTPUT
        _save(inference, path)
        emit(_account(inference, path))


def _engine(name: EngineName, jobs: int | None) -> Engine:
    from traincheck.gathering import Processes

    if name is EngineName.PROCESSES:
        return Processes(jobs or os.cpu_count() or 1)
    from traincheck.ray_engine import RayCluster

    return RayCluster(jobs)


def _known(path: Path) -> list[Summary]:
    """The evidence that the invariants at ``path`` rest on."""
    from traincheck.evidence_file import evidence_path, load_evidence
    from traincheck.invariant_file import load_provenance

    runs = load_provenance(path).runs
    beside = evidence_path(path)
    if not beside.exists():
        raise UserError(
            f"{path} cannot be updated: its evidence, {beside.name}, is not beside it. Both are written by: "
            f"{NAME} TRACE... -o {path}"
        )
    evidence = load_evidence(beside)
    if _sources(run for group in evidence for run in group.runs) != runs:
        raise UserError(f"{beside} belongs to other invariants than {path}: infer once from all traces again")
    return evidence


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None] | None]:
    """A bar on standard error, if that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Reading traces", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _save(inference: Inference, path: Path) -> None:
    from datetime import datetime, timezone

    from traincheck import __version__
    from traincheck.evidence_file import evidence_path, save_evidence
    from traincheck.invariant_file import Provenance, save_invariants

    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    save_invariants(path, inference.invariants, Provenance(now, __version__, _sources(inference.runs)))
    if path.is_file():
        save_evidence(evidence_path(path), inference.evidence)


def _sources(runs: Iterable[Run]) -> tuple[SourceRun, ...]:
    """The runs, as a file of invariants names them."""
    from traincheck.invariant_file import SourceRun

    return tuple(SourceRun(run.program, run.steps, dict(run.versions)) for run in sorted(runs))


def _account(inference: Inference, path: Path) -> str:
    """How many invariants came of what."""
    steps = sum(run.steps for run in inference.runs)
    source = f"{_count(len(inference.runs), 'run')} with {_count(steps, 'step')}"
    lines = [f"{_count(len(inference.invariants), 'invariant')} from {source}, written to {path}"]
    by_relation = Counter(invariant.relation for invariant in inference.invariants)
    lines += [f"  {number:>4}  {relation}" for relation, number in sorted(by_relation.items())]
    if inference.dropped:
        number = _count(len(inference.dropped), "hypothesis", "hypotheses")
        lines.append(f"Not kept: {number}. Ask why: {NAME} TRACE... --why-not TEXT")
    if inference.invariants:
        lines.append(f"Check another run against them: traincheck-check TRACE -i {path}")
    else:
        lines.append("Nothing held often enough to be kept: record more steps, or more runs.")
    return "\n".join(lines) + "\n"


def _reasons(inference: Inference, text: str) -> str:
    """For every hypothesis whose sentence, relation or id contains ``text``: kept, or why not."""
    wanted = text.lower()
    blocks = [
        f"kept     {invariant.text}\n         id {invariant.id}, {invariant.relation}, seen at"
        f" {_count(invariant.evidence.steps, 'step')} of {_count(invariant.evidence.runs, 'run')}"
        for invariant in inference.invariants
        if wanted in f"{invariant.text} {invariant.relation} {invariant.id}".lower()
    ]
    blocks += [
        f"dropped  {dropped.text}\n         {dropped.relation}: {dropped.reason}"
        for dropped in inference.dropped
        if wanted in f"{dropped.text} {dropped.relation}".lower()
    ]
    if not blocks:
        return f"No hypothesis speaks of {text!r}: nothing that these runs did proposes one.\n"
    return "\n".join(blocks) + "\n"


def _count(number: int, noun: str, plural: str = "") -> str:
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def main() -> NoReturn:
    """The entry point."""
    run(app, NAME)
