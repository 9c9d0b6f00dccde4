"""The manifest of a trace: which command was recorded, when, and with which versions."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, field_validator

from traincheck.trace.errors import DISTRIBUTION, TraceError
from traincheck.trace.layout import MANIFEST_NAME, SCHEMA_VERSION, check_version
from traincheck.trace.storage import TracePath

PACKAGES: Final = ("torch", "transformers", "lightning", "pytorch-lightning", "deepspeed", "accelerate")
"""The installed packages whose versions a manifest names."""

ENVIRONMENT: Final = (
    "CUBLAS_WORKSPACE_CONFIG",
    "CUDA_VISIBLE_DEVICES",
    "LOCAL_WORLD_SIZE",
    "OMP_NUM_THREADS",
    "PYTHONHASHSEED",
    "WORLD_SIZE",
)
"""The only environment variables that a manifest may hold: an environment carries secrets."""


class Manifest(BaseModel):
    """What ``manifest.json`` holds."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    schema_version: int = SCHEMA_VERSION
    traincheck: str
    """Version of the distribution that recorded the trace."""
    command: list[str]
    started_at: AwareDatetime
    python: str
    platform: str
    versions: dict[str, str] = Field(default_factory=dict)
    """Installed versions of torch and the frameworks, by distribution name."""
    world_size: int | None = Field(default=None, ge=1)
    """Number of ranks; ``None`` when the recorder was not told. Each part knows its own."""
    environment: dict[str, str] = Field(default_factory=dict)
    """Those of :data:`ENVIRONMENT` that were set."""

    @field_validator("environment")
    @classmethod
    def _only_listed(cls, environment: dict[str, str]) -> dict[str, str]:
        for name in environment:
            if name not in ENVIRONMENT:
                raise ValueError(f"{name} is not among the environment variables that a manifest may hold")
        return environment

    @staticmethod
    def for_command(command: Sequence[str], *, world_size: int | None = None) -> Manifest:
        """The manifest of a run of ``command`` that starts now, in this environment."""
        return Manifest(
            traincheck=_installed(DISTRIBUTION) or "unknown",
            command=list(command),
            started_at=datetime.now(timezone.utc),
            python=platform.python_version(),
            platform=f"{sys.platform}-{platform.machine()}",
            versions={name: version for name in PACKAGES if (version := _installed(name))},
            world_size=world_size,
            environment={name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
        )


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write ``manifest.json`` into ``directory``, which is made when missing: a reader sees all of it or nothing."""
    directory.mkdir(parents=True, exist_ok=True)
    unfinished = directory / f".{MANIFEST_NAME}.{os.getpid()}"
    unfinished.write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    unfinished.replace(directory / MANIFEST_NAME)


def read_manifest(directory: TracePath) -> Manifest:
    """The manifest of a trace directory. Raises :class:`TraceError` naming the file and the field."""
    path = directory / MANIFEST_NAME
    try:
        text = path.read_text(encoding="utf-8")
        document = json.loads(text)
    except OSError as error:
        raise TraceError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise TraceError(f"{path} is not JSON: {error}. {RECORD_AGAIN}") from error
    if not isinstance(document, dict):
        raise TraceError(f"{path} is not a manifest: expected a JSON object. {RECORD_AGAIN}")
    check_version(path, document.get("schema_version"))
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        raise TraceError(f"{path}: {first_fault(error)}. {RECORD_AGAIN}") from error


RECORD_AGAIN: Final = "Record the run again with traincheck-collect"


def first_fault(error: ValidationError) -> str:
    """The first fault that pydantic found, as ``field 'command.0': Input should be a valid string``."""
    fault = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in fault["loc"])
    message = fault["msg"].removeprefix("Value error, ")
    return f"field {place!r}: {message}" if place else message


def _installed(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
