"""The manifest tells which command was recorded, and nothing that the environment keeps secret."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from traincheck.trace import SCHEMA_VERSION, Manifest, write_manifest
from traincheck.trace.manifest import ENVIRONMENT, read_manifest


def test_a_manifest_comes_back_as_it_was_written(tmp_path: Path) -> None:
    manifest = Manifest.for_command(["python", "train.py", "--name", "é\n"], world_size=2)
    write_manifest(tmp_path / "new" / "trace", manifest)

    assert manifest == read_manifest(tmp_path / "new" / "trace")
    assert SCHEMA_VERSION == manifest.schema_version


def test_only_listed_environment_variables_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "a-secret")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    manifest = Manifest.for_command(["python"])
    write_manifest(tmp_path, manifest)

    assert "3" == manifest.environment["OMP_NUM_THREADS"]
    assert set(manifest.environment) <= set(ENVIRONMENT)
    assert "a-secret" not in (tmp_path / "manifest.json").read_text()


def test_a_manifest_cannot_be_made_with_a_secret() -> None:
    with pytest.raises(ValueError, match="HF_TOKEN"):
        Manifest.model_validate(dict(Manifest.for_command(["python"])) | {"environment": {"HF_TOKEN": "a-secret"}})


def test_a_manifest_that_could_not_be_finished_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Manifest.for_command(["first"])
    write_manifest(tmp_path, first)

    def full_disk(self: Path, text: str, encoding: str) -> int:
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "write_text", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_manifest(tmp_path, Manifest.for_command(["second"]))

    assert first == read_manifest(tmp_path)


def test_nothing_but_the_manifest_stays(tmp_path: Path) -> None:
    write_manifest(tmp_path, Manifest.for_command(["python"]))

    assert ["manifest.json"] == os.listdir(tmp_path)
