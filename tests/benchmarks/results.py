"""The tables of RESULTS.md: each script prints its own, and replaces it there with ``--write``."""

from __future__ import annotations

import platform
import re
import shlex
import sys
from collections.abc import Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "RESULTS.md"
HEAD = """# What it costs

Each section was measured by the command that it names, everything in it in one run. "The peer" is the PyPI package
`traincheck` 0.2.0 in an environment of its own, with the same torch. `make bench` measures everything again.
"""


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A markdown table; numbers are aligned to the right."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = [[name.ljust(width) for name, width in zip(columns, widths, strict=True)], rule]
    lines += [[row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def publish(name: str, title: str, body: str, *, write: bool) -> None:
    """Print a section, and put it into RESULTS.md in place of the last one of that ``name``."""
    command = shlex.join(["python", f"tests/benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    section = f"## {title}\n\n{body}\n\n`{command}` on {date.today()}: {_versions()}.\n"
    print(section)
    if not write:
        return
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else HEAD
    block = f"{begin}\n{section}{end}\n"
    pattern = re.compile(f"{begin}\n.*?{end}\n", re.DOTALL)
    after = pattern.sub(lambda _: block, before) if pattern.search(before) else f"{before}\n{block}"
    RESULTS.write_text(after, encoding="utf-8")


def _cell(value: object) -> str:
    match value:
        case None:
            return "-"
        case float():
            return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
        case int():
            return f"{value:,}"
    return str(value)


def _versions() -> str:
    packages = " ".join(f"{name} {version(name)}" for name in ("traincheck-suite", "torch", "pyarrow"))
    return f"Python {platform.python_version()}, {packages}, {_processor()}"


def _processor() -> str:
    """The processor's own name where the system tells it."""
    information = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", information.read_text()) if information.exists() else None
    return found[1] if found else platform.machine()
