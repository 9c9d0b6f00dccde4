"""A pack is built from recipes: what is curated is kept, what is missing is told, and again it is the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

RECIPE = """
import sys
import torch

torch.manual_seed(int(sys.argv[2]))
model = torch.nn.Linear(4, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(8):
    optimizer.zero_grad()
    torch.nn.functional.mse_loss(model(torch.randn(8, 4)), torch.randn(8, 2)).backward()
    optimizer.step()
"""

CURATED = {
    "relation": "EventContain",
    "subject": {"parent": "optimizer.step", "child": "change:param", "how": "every"},
    "code": "UPD001",
    "title": "The optimizer step changes nothing",
    "severity": "error",
    "why_silent": "Nothing is raised.",
    "fix": "Look at the gradients.",
}


def build(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "traincheck.zoo_build", "tiny", *options],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def write(path: Path, document: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    recipes = {
        "schema_version": 1,
        "kind": "traincheck-zoo-recipes",
        "pack_version": "0.1",
        "versions": {"torch": ">=2.0"},
        "runs": [{"recipe": "line.py", "args": ["--seed", "1"]}],
    }
    write(tmp_path / "recipes" / "tiny" / "zoo.json", recipes)
    (tmp_path / "recipes" / "tiny" / "line.py").write_text(RECIPE)
    curation = {"schema_version": 1, "kind": "traincheck-curation", "invariants": [CURATED]}
    write(tmp_path / "invariants_zoo" / "tiny" / "0.1" / "curation.json", curation)
    return tmp_path


@pytest.mark.slow
def test_a_pack_is_built_and_built_again_to_the_same_files(folder: Path) -> None:
    first = build(folder, "--candidates")
    pack = folder / "invariants_zoo" / "tiny" / "0.1"
    before = {path.name: path.read_text() for path in pack.iterdir()}

    again = build(folder)
    check = build(folder, "--check")

    assert (0, 0, 0) == (first.returncode, again.returncode, check.returncode), first.stderr + check.stdout
    assert {"curation.json", "invariants.json", "pack.json"} == set(before)
    assert before == {path.name: path.read_text() for path in pack.iterdir()}
    assert "change:param" in before["invariants.json"]
    assert "wrote 1 curated" in first.stdout
    assert '    Membership {"part": ' in first.stdout
    assert str(folder) not in before["invariants.json"] + before["pack.json"]


@pytest.mark.slow
def test_what_is_curated_but_not_inferred_is_an_error(folder: Path) -> None:
    path = folder / "invariants_zoo" / "tiny" / "0.1" / "curation.json"
    document = json.loads(path.read_text())
    document["invariants"].append(CURATED | {"subject": CURATED["subject"] | {"child": "dropout"}, "code": "DRO001"})  # type: ignore[operator]
    path.write_text(json.dumps(document))

    done = build(folder)

    assert 1 == done.returncode
    assert "not inferred: DRO001 The optimizer step changes nothing" in done.stdout


def test_a_recipe_that_fails_is_told_with_its_last_lines(folder: Path) -> None:
    (folder / "recipes" / "tiny" / "line.py").write_text("raise RuntimeError('no data')")

    done = build(folder)

    assert 2 == done.returncode
    assert "the recipe line.py --seed 1 failed with status 1" in done.stderr
    assert "RuntimeError: no data" in done.stderr


def test_a_framework_without_recipes_is_told(tmp_path: Path) -> None:
    done = build(tmp_path)

    assert 2 == done.returncode
    assert "recipes/tiny/zoo.json cannot be read" in done.stderr
