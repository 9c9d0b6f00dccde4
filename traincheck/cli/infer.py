"""``traincheck-infer``: infers invariants from the traces of known-good runs."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer

from traincheck.cli import emit, new_app, run

if TYPE_CHECKING:
    from traincheck.infer import Inference

NAME: Final = "traincheck-infer"
DEFAULT_OUTPUT: Final = Path("invariants.json")

app = new_app()


@app.command(
    context_settings={"help_option_names": ["-h", "--help"]}, epilog="Exit status: 0, or 2 when there was an error."
)
def infer(
    traces: Annotated[
        list[Path], typer.Argument(metavar="TRACE", help="Traces of known-good runs, from traincheck-collect.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Default: invariants.json."),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option("-j", "--jobs", min=1, metavar="N", help="Read so many traces at a time; default: one per core."),
    ] = None,
    validate: Annotated[
        list[Path] | None,
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

    with _progress() as progress:
        inference = infer_traces(
            traces, jobs=jobs or os.cpu_count() or 1, validate=tuple(validate or ()), progress=progress
        )
    if why_not is not None:
        emit(_reasons(inference, why_not))
    if why_not is None or output is not None:
        path = output or DEFAULT_OUTPUT
        _save(inference, path)
        emit(_account(inference, path))


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
    from traincheck.invariant_file import Provenance, SourceRun, save_invariants

    runs = tuple(SourceRun(run.program, run.steps, dict(run.versions)) for run in inference.runs)
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    save_invariants(path, inference.invariants, Provenance(now, __version__, runs))


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
