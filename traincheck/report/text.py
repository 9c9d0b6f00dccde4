"""The verdict as text for a terminal: the headline, each finding with what to do, then the account."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from typing import TYPE_CHECKING, Final

from traincheck.findings import CheckResult, Finding
from traincheck.invariant import Invariant
from traincheck.report.verdict import (
    MAX_CONSEQUENCES,
    account,
    consequences,
    count,
    coverage,
    explained,
    headline,
    name_list,
    place,
    printable,
    verdict,
)

if TYPE_CHECKING:
    from rich.console import Console

    from traincheck.zoo import Pack

LABEL_WIDTH: Final = len("Silent because")
MIN_WIDTH: Final = 40
MAX_WIDTH: Final = 110

VERDICT_STYLE: Final = {"clean": "bold green", "violations": "bold red", "not checked": "bold yellow"}
SEVERITY_STYLE: Final = {"error": "bold red", "warning": "bold yellow"}


def render(result: CheckResult, *, color: bool, width: int) -> str:
    """The whole report, at most ``width`` columns wide. Without ``color`` it is plain text without any escapes."""
    console = _console(color=color, width=width)
    _line(console, headline(result), VERDICT_STYLE[verdict(result)])
    for finding in result.findings:
        console.print()
        _finding(console, finding)
    console.print()
    _account(console, result)
    return _text(console)


def render_invariants(invariants: Sequence[Invariant], *, color: bool, width: int) -> str:
    """What ``--explain`` says about the invariants that share one code."""
    console = _console(color=color, width=width)
    first = invariants[0]
    _line(console, f"{first.code}  {first.title}", "bold")
    rows: list[tuple[str, str]] = []
    if first.curation:
        rows.append(("Severity", first.curation.severity))
    for invariant in invariants:
        rows += [("It says", invariant.text), ("Evidence", _evidence(invariant))]
    if first.curation:
        rows += [("Silent because", first.curation.why_silent), ("What to do", first.curation.fix)]
    _rows(console, rows)
    return _text(console)


def render_pack(pack: Pack, *, color: bool, width: int) -> str:
    """What ``--list-zoo`` says about a pack."""
    console = _console(color=color, width=width)
    ranges = ", ".join(f"{package} {versions}" for package, versions in sorted(pack.index.versions.items()))
    _line(console, f"{pack.name}  {count(len(pack.invariants), 'invariant')}, for {ranges or 'any version'}", "bold")
    titles = {invariant.code: invariant.title for invariant in pack.invariants}
    _rows(console, sorted(titles.items()))
    return _text(console)


def _evidence(invariant: Invariant) -> str:
    evidence = invariant.evidence
    return (
        f"true in {count(evidence.examples, 'example')} at {count(evidence.steps, 'step')}"
        f" of {count(evidence.runs, 'reference run')} of {count(evidence.programs, 'program')}"
    )


def _console(*, color: bool, width: int) -> Console:
    from rich.console import Console

    return Console(
        file=StringIO(),
        width=max(MIN_WIDTH, min(width, MAX_WIDTH)),
        color_system="standard" if color else None,
        force_terminal=color,
        legacy_windows=False,
        highlight=False,
        markup=False,
        emoji=False,
    )


def _text(console: Console) -> str:
    assert isinstance(console.file, StringIO)
    return "".join(f"{line.rstrip()}\n" for line in console.file.getvalue().splitlines())


def _finding(console: Console, finding: Finding) -> None:
    label = f"{finding.severity.upper()} {printable(finding.code)}"
    from rich.text import Text

    console.print(Text.assemble((label, SEVERITY_STYLE[finding.severity]), "  ", (printable(finding.title), "bold")))
    rows = [("Run", finding.run)] if finding.run else []
    rows.append(("Where", place(finding)))
    if finding.violations:
        cause = finding.violations[0]
        if cause.site:
            rows.append(("Line of code", cause.site))
        rows += [("Expected", cause.expected), ("Seen", cause.seen)]
        if cause.names and cause.names != (cause.api,):
            rows.append(("", name_list(cause.names)))
        if cause.invariant.curation is None:
            rows.append(("Evidence", _evidence(cause.invariant)))
    else:
        rows.append(("Seen", finding.message))
    if finding.why_silent:
        rows.append(("Silent because", finding.why_silent))
    if finding.fix:
        rows.append(("What to do", finding.fix))
    _rows(console, rows + _also(finding))


def _also(finding: Finding) -> list[tuple[str, str]]:
    lines = consequences(finding)
    rows = [("", f"- {line}") for line in lines[:MAX_CONSEQUENCES]]
    if len(lines) > MAX_CONSEQUENCES:
        rows.append(("", f"and {len(lines) - MAX_CONSEQUENCES} more"))
    if rows:
        rows[0] = ("Also broken", rows[0][1])
    return rows


def _account(console: Console, result: CheckResult) -> None:
    total = sum(number for number, _, _ in account(result))
    _line(console, f"Checked {count(total, 'invariant')}; {coverage(result)}.", "bold")
    digits = len(f"{total:,}")
    for number, word, meaning in account(result):
        _line(console, f"  {number:>{digits},} {word:<13}  {meaning}", "" if number else "dim")
    for note in result.notes:
        _line(console, f"Note: {note}", "yellow")
    code = explained(result)
    if code:
        _line(console, f"More about a code: traincheck-check --explain {code}", "dim")


def _line(console: Console, text: str, style: str) -> None:
    from rich.text import Text

    console.print(Text(printable(text), style=style))


def _rows(console: Console, rows: list[tuple[str, str]]) -> None:
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(width=2)
    grid.add_column(width=LABEL_WIDTH, no_wrap=True)
    grid.add_column(overflow="fold", ratio=1)
    for label, value in rows:
        grid.add_row("", Text(label, style="dim"), Text(printable(value)))
    console.print(grid)
