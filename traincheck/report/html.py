"""The verdict as a page: one self-contained file that can be opened, mailed or kept with a run."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Final

from traincheck.errors import UserError
from traincheck.findings import CheckResult
from traincheck.json_file import write_text
from traincheck.report.verdict import (
    MAX_NAMES,
    account,
    consequences,
    coverage,
    explained,
    first_violations,
    headline,
    place,
    states,
    verdict,
)

TEMPLATE: Final = "page.html.jinja"
INDEX: Final = "index.html"


def write_report(result: CheckResult, directory: Path) -> Path:
    """Write the page into ``directory``, which is made when missing. Returns its path. Raises :class:`UserError`."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{directory} cannot be used for the report: {error.strerror}") from error
    path = directory / INDEX
    write_text(path, render(result))
    return path


def render(result: CheckResult) -> str:
    """The page as text. Everything that comes from files is escaped."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files("traincheck.report").joinpath(TEMPLATE).read_text("utf-8"))
    return template.render(
        result=result,
        verdict=verdict(result),
        headline=headline(result),
        coverage=coverage(result),
        account=account(result),
        states=states(result),
        explained=explained(result),
        first=first_violations(result),
        place=place,
        consequences=consequences,
        max_names=MAX_NAMES,
    )
