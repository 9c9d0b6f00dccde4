"""``traincheck-check``: checks finished traces, or a command while it runs, against invariants."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer

from traincheck.cli import emit, new_app, run, tell, wants_color, width
from traincheck.errors import UserError

if TYPE_CHECKING:
    from traincheck.cli.chosen import Chosen
    from traincheck.findings import CheckResult

NAME: Final = "traincheck-check"

STATUS: Final = {"clean": 0, "violations": 1, "not checked": 2}

NOTHING_TRAINED: Final = (
    "no Python process of this command imported torch (in an environment with traincheck-suite) and began to train."
)

app = new_app()


class Format(str, Enum):
    """How the verdict is printed."""

    TEXT = "text"
    JSON = "json"
    SARIF = "sarif"
    JUNIT = "junit"


@app.command(
    options_metavar="[OPTIONS] [-- COMMAND...]",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit status: 0 clean; 1 violations; 2 an error, or nothing was checked.",
)
def check(
    context: typer.Context,
    traces: Annotated[
        list[str] | None,
        typer.Argument(metavar="TRACE", help="Traces that traincheck-collect wrote: folders, or URLs (s3://...)."),
    ] = None,
    zoo: Annotated[
        list[str] | None,
        typer.Option(
            "--zoo",
            metavar="NAME[@VERSION]",
            help="Check against this pack of the zoo. Without --zoo and -i: the pack of the run's framework.",
        ),
    ] = None,
    files: Annotated[
        list[Path] | None,
        typer.Option("-i", "--invariants", metavar="FILE", help="Check against what traincheck-infer wrote."),
    ] = None,
    select: Annotated[
        list[str] | None,
        typer.Option("--select", metavar="CODES", help="Only these codes, or codes that begin so: OPT,LRS001."),
    ] = None,
    ignore: Annotated[
        list[str] | None, typer.Option("--ignore", metavar="CODES", help="Not these codes, or codes that begin so.")
    ] = None,
    output_format: Annotated[
        Format, typer.Option("--format", help="A machine's format is the only thing on standard output.")
    ] = Format.TEXT,
    report: Annotated[
        Path | None, typer.Option("--report", metavar="DIR", help="Write the verdict as a page: DIR/index.html.")
    ] = None,
    explain: Annotated[
        str | None,
        typer.Option("--explain", metavar="CODE", help="Tell what a code means, why it is silent, how to fix it."),
    ] = None,
    list_zoo: Annotated[bool, typer.Option("--list-zoo", help="List the packs of the zoo and their codes.")] = False,
) -> None:
    """Check training runs against invariants: finished TRACEs, or COMMAND while it runs."""
    from traincheck.cli.chosen import Chosen

    command: tuple[str, ...] = context.obj or ()
    chosen = Chosen(tuple(zoo or ()), tuple(files or ()), _codes(select), _codes(ignore))
    if list_zoo:
        _list_zoo()
    elif explain is not None:
        _explain(explain, chosen)
    elif command and traces:
        raise UserError("give either TRACEs or, after --, a COMMAND to run; not both")
    elif command:
        _check_command(command, chosen, output_format, report)
    elif traces:
        _finish(_check_traces(traces, chosen), output_format, report)
    else:
        raise UserError(f"nothing to check: give a TRACE, or a command as in: {NAME} --zoo pytorch -- python train.py")


def _codes(given: Sequence[str] | None) -> tuple[str, ...]:
    return tuple(code.strip() for codes in given or () for code in codes.split(",") if code.strip())


def _check_traces(places: Sequence[str], chosen: Chosen) -> CheckResult:
    from traincheck.check import check_trace
    from traincheck.report.combined import combined
    from traincheck.trace import open_trace

    results: list[tuple[str, CheckResult]] = []
    for place in places:
        trace = open_trace(place)
        invariants, notes = chosen.for_run(trace.parts[0].process.framework, trace.manifest.versions)
        results.append((str(trace.path), _noted(check_trace(trace, invariants), notes)))
    return combined(results)


def _check_command(command: Sequence[str], chosen: Chosen, output_format: Format, report: Path | None) -> NoReturn:
    from traincheck.launch import NOT_EXECUTABLE, NOT_FOUND, check_command

    invariants, notes = chosen.for_run("pytorch", chosen.installed_versions())
    status, result = check_command(command, invariants, stdout_to_stderr=output_format is not Format.TEXT)
    if status in (NOT_FOUND, NOT_EXECUTABLE) and not result.steps:
        # The launcher has said why; there is no run to speak of.
        raise typer.Exit(STATUS["not checked"])
    if not result.steps:
        notes.append(NOTHING_TRAINED)
    if status:
        tell(NAME, f"the command failed: {command[0]} ended with status {status}; its verdict covers what ran")
    if output_format is Format.TEXT:
        emit("\n")  # sets the verdict apart from what the program printed
    _finish(_noted(result, notes), output_format, report, failed=status != 0)


def _noted(result: CheckResult, notes: Sequence[str]) -> CheckResult:
    from dataclasses import replace

    return replace(result, notes=(*result.notes, *notes)) if notes else result


def _finish(result: CheckResult, output_format: Format, report: Path | None, *, failed: bool = False) -> NoReturn:
    """Print the verdict and exit with its status. A run that failed is never clean."""
    from traincheck.report.verdict import headline, verdict

    emit(_rendered(result, output_format))
    if report is not None:
        from traincheck.report.html import write_report

        tell(NAME, f"report: {write_report(result, report)}")
    status = STATUS[verdict(result)]
    if status == STATUS["not checked"] and output_format is not Format.TEXT:
        tell(NAME, headline(result))
    raise typer.Exit(STATUS["not checked"] if failed and not status else status)


def _rendered(result: CheckResult, output_format: Format) -> str:
    match output_format:
        case Format.TEXT:
            from traincheck.report import text

            return text.render(result, color=wants_color(), width=width())
        case Format.JSON:
            from traincheck.report import json_document

            return json_document.dump(result)
        case Format.SARIF:
            from traincheck.report import sarif

            return sarif.dump(result)
        case Format.JUNIT:
            from traincheck.report import junit

            return junit.dump(result)


def _explain(code: str, chosen: Chosen) -> None:
    from traincheck.report.text import render_invariants

    emit(render_invariants(chosen.explain(code), color=wants_color(), width=width()))


def _list_zoo() -> None:
    from traincheck.report.text import render_pack
    from traincheck.zoo import load_pack, pack_names

    names = pack_names()
    for name in names:
        emit(render_pack(load_pack(name), color=wants_color(), width=width()))
    if not names:
        raise UserError("the zoo is empty: no pack is installed")


def main() -> NoReturn:
    """The entry point."""
    run(app, NAME)
