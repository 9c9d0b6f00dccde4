"""The rooms of the core and their one-way arrows: a module imports from rooms below its own, never from above."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

ROOMS = (
    *("values", "vocabulary", "errors", "events", "json_file"),
    "window",
    *("trace", "relations", "parcel", "exchange"),
    *("precondition", "invariant", "evidence", "invariant_file", "evidence_file", "findings"),
    *("zoo", "selection", "plan"),
    *("governor", "governed", "record"),
    *("prune", "gathering", "ray_engine", "held_out", "infer", "causes", "check"),
    *("report", "verdicts", "last_words"),
    *("reaction", "options", "live", "launch", "departure", "agreement", "watching"),
    *("cli", "integrations"),
    *("launched", "bootstrap"),
    "zoo_build",
)
"""From the bottom to the top, each by its first name below ``traincheck``. The package itself is above them all."""

APART = ({"trace", "relations"}, {"cli", "integrations"})
"""Rooms side by side: neither imports the other."""

NEED_TORCH = {"record", "departure", "agreement", "watching", "integrations"}
START_RECORDING = {"departure", "launched", "watching", "bootstrap", "cli", "integrations", "zoo_build", ""}
"""Rooms that may import those that need torch; the ones that do not need it themselves do so when a function runs."""


def modules(root: Path) -> Iterator[tuple[str, Path]]:
    """Every module of the installation, with the name that it is imported by."""
    for top, package in (("traincheck", "traincheck"), ("integrations", "traincheck.integrations")):
        for path in sorted((root / top).rglob("*.py")):
            parts = path.relative_to(root / top).with_suffix("").parts
            yield ".".join((package, *(part for part in parts if part != "__init__"))), path


def imports(name: str, path: Path) -> Iterator[tuple[str, bool]]:
    """What a module imports, anywhere in it, and whether that happens as soon as it is itself imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    later = {inner for outer in ast.walk(tree) if _runs_later(outer) for inner in ast.walk(outer)}
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(tree):
        match node:
            case ast.Import(names):
                yield from ((alias.name, node not in later) for alias in names)
            case ast.ImportFrom(module, names, level):
                parents = package.split(".")[: len(package.split(".")) + 1 - level] if level else []
                source = ".".join((*parents, module) if module else parents)
                yield from ((f"{source}.{alias.name}", node not in later) for alias in names)


def _runs_later(node: ast.AST) -> bool:
    for_types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    return for_types or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))


def room(name: str) -> str:
    """``relations`` for ``traincheck.relations.consistent``; empty for the package itself and for other packages."""
    top, _, rest = name.partition(".")
    first = rest.partition(".")[0]
    return first if top == "traincheck" and first in ROOMS else ""


def faults(root: Path) -> list[str]:
    """Every import that goes against the arrows."""
    found = []
    for name, path in modules(root):
        here = room(name)
        if not here and name != "traincheck":
            found.append(f"{name} is in no room: give it its place in ROOMS")
            continue
        for target, at_once in imports(name, path):
            there = room(target)
            needs_torch = target.split(".")[0] == "torch" or there in NEED_TORCH - {here}
            if needs_torch and at_once and here not in NEED_TORCH:
                found.append(f"{name} needs torch to be imported: {target}")
            elif there and there != here and not _allowed(here, there):
                found.append(f"{name} imports {target}, which is above or beside it")
    return found


def _allowed(here: str, there: str) -> bool:
    if {here, there} in APART or (there in NEED_TORCH and here not in START_RECORDING):
        return False
    return not here or ROOMS.index(there) < ROOMS.index(here)


def test_imports_point_one_way() -> None:
    assert [] == faults(ROOT)


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("traincheck/values.py", "from traincheck.window import Window"),
        ("traincheck/relations/consistent.py", "from traincheck.trace.reader import read"),
        ("traincheck/relations/consistent.py", "def late():\n    from traincheck import check"),
        ("traincheck/trace/reader.py", "from ..infer import infer"),
        ("traincheck/record/hooks.py", "from traincheck.check import Checker"),
        ("traincheck/check/online.py", "def late():\n    from traincheck.record import hooks"),
        ("traincheck/cli/collect.py", "from traincheck.integrations import lightning"),
        ("traincheck/cli/collect.py", "from traincheck.record import hooks"),
        ("traincheck/report/text.py", "import torch.nn"),
        ("traincheck/utils.py", ""),
        ("integrations/lightning.py", "from traincheck.cli import collect"),
    ],
)
def test_an_import_against_the_arrows_is_noticed(tmp_path: Path, module: str, line: str) -> None:
    (tmp_path / module).parent.mkdir(parents=True)
    (tmp_path / module).write_text(line)

    assert 1 == len(faults(tmp_path))


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("traincheck/__init__.py", "def watch():\n    from traincheck.watching import watch"),
        ("traincheck/record/hooks.py", "import torch\nfrom traincheck.plan import Plan"),
        ("traincheck/cli/collect.py", "def main():\n    from traincheck.record import hooks"),
        ("traincheck/relations/consistent.py", "from .contract import Needs\nfrom traincheck import values"),
        ("integrations/lightning.py", "from traincheck.watching import watch\nfrom .common import options"),
    ],
)
def test_an_import_along_the_arrows_is_fine(tmp_path: Path, module: str, line: str) -> None:
    (tmp_path / module).parent.mkdir(parents=True)
    (tmp_path / module).write_text(line)

    assert [] == faults(tmp_path)


PROBE = """
import sys
sys.argv = [{command!r}, "--help"]
{before}
from importlib.metadata import entry_points
(point,) = entry_points(group="console_scripts", name={command!r})
try:
    point.load()()
except SystemExit as end:
    assert not end.code, end.code
sys.exit(3 if "torch" in sys.modules else 0)
"""


def help_status(command: str, before: str = "") -> int:
    """0 when ``command --help`` ran without importing torch, 3 when it imported torch, 1 when it failed."""
    probe = PROBE.format(command=command, before=before)
    return subprocess.run([sys.executable, "-c", probe], capture_output=True, check=False, timeout=120).returncode


@pytest.mark.parametrize("command", ["traincheck-check", "traincheck-infer", "traincheck-collect"])
def test_help_does_not_import_torch(command: str) -> None:
    assert 0 == help_status(command)


def test_an_import_of_torch_is_noticed() -> None:
    assert 3 == help_status("traincheck-check", before="import torch")
