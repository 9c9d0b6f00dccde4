"""What each part says of itself: the facts that hold for one process, in the metadata of its Arrow schema."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from traincheck.events import Process
from traincheck.trace.errors import TraceError
from traincheck.trace.layout import SCHEMA_VERSION, check_version
from traincheck.trace.manifest import first_fault

METADATA_KEY: Final = b"traincheck"
FOLLOWS_KEY: Final = b"traincheck.follows"
"""Of a tail: after how many batches of the part its own come. There are more of them: they are in the part as well."""

_LAUNCH: Final = ("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "MASTER_PORT")


class Header(BaseModel):
    """The JSON under ``traincheck`` in the schema metadata of a part."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    schema_version: int = SCHEMA_VERSION
    rank: int = Field(ge=0)
    world_size: int = Field(ge=1)
    pid: int
    framework: str
    versions: dict[str, str]
    started_ns: int
    """Nanoseconds since 1970 at which the process began to write."""
    launch: str
    """Equal for the ranks that one launcher started together, as far as its environment tells; else empty."""

    @staticmethod
    def of(process: Process) -> Header:
        """The header of a part that this process begins now."""
        return Header(
            rank=process.rank,
            world_size=process.world_size,
            pid=process.pid,
            framework=process.framework,
            versions=dict(process.versions),
            started_ns=time.time_ns(),
            launch="/".join(os.environ[name] for name in _LAUNCH if name in os.environ),
        )

    @property
    def process(self) -> Process:
        """The process that wrote the part."""
        return Process(self.rank, self.world_size, self.pid, self.framework, self.versions)

    def metadata(self) -> dict[bytes, bytes]:
        """What goes into the schema of the part."""
        return {METADATA_KEY: self.model_dump_json().encode()}


def parse_header(path: object, metadata: Mapping[bytes, bytes] | None) -> Header:
    """The header in the schema metadata of the part at ``path``. Raises :class:`TraceError`."""
    try:
        document = json.loads((metadata or {})[METADATA_KEY])
        found = document["schema_version"]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise TraceError(
            f"{path} is an Arrow stream, but not a part of a trace: no header {METADATA_KEY.decode()!r} in its schema"
        ) from error
    check_version(path, found)
    try:
        return Header.model_validate_json((metadata or {})[METADATA_KEY])
    except ValidationError as error:
        raise TraceError(f"{path}, header: {first_fault(error)}") from error
