"""Naming the trace package costs next to nothing, and reading traces needs no torch."""

from __future__ import annotations

import importlib.resources
import re
import subprocess
import sys

import pytest

import traincheck.trace
from traincheck.trace.schema import SCHEMA


def imported_by(statement: str) -> set[str]:
    """The modules that a fresh interpreter has after ``statement``."""
    program = f"{statement}\nimport sys\nprint(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return set(result.stdout.split())


def test_the_package_alone_imports_neither_pyarrow_nor_pydantic() -> None:
    assert not {"torch", "pyarrow", "pydantic", "numpy"} & imported_by("from traincheck.trace import TraceError")


def test_reading_and_writing_need_no_torch() -> None:
    modules = imported_by("from traincheck.trace import open_trace, Writer, Manifest")

    assert "pyarrow" in modules
    assert "torch" not in modules


def test_watching_a_training_of_one_process_needs_no_pyarrow() -> None:
    """It would be most of the memory that a watch adds to a training."""
    modules = imported_by("import traincheck\ntraincheck.watch().close()")

    assert "torch" in modules
    assert "pyarrow" not in modules


def test_every_listed_name_is_there() -> None:
    assert all(hasattr(traincheck.trace, name) for name in traincheck.trace.__all__)
    with pytest.raises(AttributeError, match="no attribute 'read_trace'"):
        traincheck.trace.read_trace  # noqa: B018 - the access is what is tested


def test_the_format_page_names_every_column() -> None:
    page = importlib.resources.files("traincheck.trace").joinpath("FORMAT.md").read_text(encoding="utf-8")

    assert set(SCHEMA.names) <= set(re.findall(r"`(\w+)`", page))
