"""What is installed is what is in the repository: packages, data files, commands."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
DATA = ("*.json", "*.toml", "*.md", "*.jinja", "*.j2", "*.html", "*.css", "py.typed")
COMMANDS = {"traincheck-collect", "traincheck-infer", "traincheck-check"}


def project() -> dict[str, Any]:
    document: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return document


def folders(root: Path) -> dict[str, Path]:
    """Every folder below ``root`` that is part of the installation, by the package that it is installed as."""
    tops = {"traincheck": "traincheck", "integrations": "traincheck.integrations"}
    tops["invariants_zoo"] = "traincheck.invariants_zoo"
    found = {}
    for top, package in tops.items():
        for source in (root / top).rglob("*.py"):
            relative = source.parent.relative_to(root / top)
            found[".".join((package, *relative.parts))] = source.parent
    return found


def files(root: Path) -> set[str]:
    """Every module and data file that belongs into the wheel, by its name there."""
    return {
        f"{package.replace('.', '/')}/{path.relative_to(folder).as_posix()}"
        for package, folder in folders(root).items()
        for pattern in ("*.py", *DATA)
        for path in folder.rglob(pattern)
    }


def build(root: Path, output: Path) -> set[str]:
    """The files of the wheel that is built from ``root``, without the network."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--no-index", "-w", str(output), str(root)], check=True, capture_output=True)
    (wheel,) = output.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of what is installed: building leaves files in the folder that it builds from."""
    target = tmp_path / "copy"
    for folder in ("traincheck", "integrations", "invariants_zoo"):
        shutil.copytree(ROOT / folder, target / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, target / name)
    return target


def test_every_package_on_disk_is_in_the_package_map() -> None:
    assert set(folders(ROOT)) == set(project()["tool"]["setuptools"]["packages"])


def test_a_forgotten_package_is_noticed(copy: Path) -> None:
    (copy / "traincheck" / "forgotten").mkdir()
    (copy / "traincheck" / "forgotten" / "__init__.py").touch()

    assert set(folders(copy)) - set(folders(ROOT)) == {"traincheck.forgotten"}


def test_every_package_but_the_bootstrap_has_an_init() -> None:
    without = {name for name, folder in folders(ROOT).items() if not (folder / "__init__.py").exists()}

    assert without <= {"traincheck.bootstrap"}


def test_the_wheel_holds_every_module_and_data_file(copy: Path, tmp_path: Path) -> None:
    expected = files(copy)

    assert expected == build(copy, tmp_path / "wheel")
    assert "traincheck/py.typed" in expected
    assert "traincheck/trace/FORMAT.md" in expected
    assert any(name.startswith("traincheck/invariants_zoo/pytorch/") for name in expected)


def test_the_commands_import() -> None:
    installed = {point.name: point for point in entry_points(group="console_scripts") if point.name in COMMANDS}

    assert set(installed) == COMMANDS == set(project()["project"]["scripts"])
    assert all(callable(point.load()) for point in installed.values())


def test_torch_is_left_to_the_user() -> None:
    assert not [name for name in project()["project"]["dependencies"] if name.startswith("torch")]
