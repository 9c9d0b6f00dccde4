"""A JSON document from somebody else: read with limits, told apart by kind and version, and every fault located."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from traincheck.errors import UserError

MAX_SIZE_BYTES: Final = 64 * 1024 * 1024
"""A larger file is refused unread: a few hundred invariants stay below one megabyte."""

DISTRIBUTION: Final = "traincheck-suite"

DocumentT = TypeVar("DocumentT", bound=BaseModel)


class DocumentError(UserError):
    """A file that is missing, is something else, or is damaged."""


class Strict(BaseModel):
    """A part of a document: unknown fields and values of another type are refused."""

    # Built when first used: who only writes documents does not pay for the checks of reading them.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)


def read_text(path: Path) -> str:
    """The text of the file at ``path``. Raises :class:`DocumentError`."""
    try:
        if (path / "manifest.json").exists():
            raise DocumentError(f"{path} is a trace, not a file of invariants; give it as TRACE")
        with path.open("rb") as file:
            data = file.read(MAX_SIZE_BYTES + 1)
    except OSError as error:
        raise DocumentError(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > MAX_SIZE_BYTES:
        raise DocumentError(f"{path} is larger than {MAX_SIZE_BYTES // 2**20} MB, too large for a file of invariants")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DocumentError(f"{path} is not UTF-8 text (at byte {error.start}); expected a JSON document") from error


def write_text(path: Path, text: str) -> None:
    """Write the file at ``path``: all of it, or what was there stays. Raises :class:`DocumentError`."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """:func:`write_text` for what is not text."""
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(content)
            return
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        unfinished.write_bytes(content)
        unfinished.replace(path)
    except OSError as error:
        raise DocumentError(f"{path} cannot be written: {error.strerror}") from error


def parse(text: str, name: str) -> object:
    """``text`` as JSON data; ``name`` is what errors call it. Raises :class:`DocumentError` with line and column."""
    try:
        data: object = json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        if _is_json_lines(text):
            raise DocumentError(
                f"{name} is JSON Lines, one record a line, as other tools write them; expected one JSON document. "
                "Infer invariants with traincheck-infer"
            ) from error
        raise DocumentError(f"{name} is not JSON: line {error.lineno} column {error.colno}: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise DocumentError(f"{name} is not usable JSON: {reason}") from error
    return data


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON; a non-finite number is written as {{'$float': ...}}")


def _is_json_lines(text: str) -> bool:
    lines = text.split("\n", 2)[:2]
    try:
        return len(lines) == 2 and all(isinstance(json.loads(line), dict) for line in lines)
    except (ValueError, RecursionError):
        return False


SEEN_BEFORE: Final = (
    ({"command", "started_at"}, "the manifest of a trace; give the directory of the trace as TRACE"),
    ({"findings", "verdict"}, "a report of traincheck-check"),
    ({"relation", "params"}, "a record of invariants of another tool; infer invariants with traincheck-infer"),
)
"""Documents that are easily taken for one of ours: the fields that give them away, and what they are."""


def check_header(data: object, name: str, *, kind: str, version: int) -> None:
    """Raises :class:`DocumentError` unless ``data`` says that it is of this kind and version."""
    if not isinstance(data, dict):
        raise DocumentError(f"{name} is not of kind {kind!r}: expected a JSON object, found {_json_type(data)}")
    found = data.get("kind")
    if found != kind:
        raise DocumentError(f"{name} is not of kind {kind!r}: {_likeness(data, found)}")
    found = data.get("schema_version")
    if type(found) is int and found > version:
        raise DocumentError(
            f"{name} has schema_version {found}; this traincheck reads up to {version}. "
            f"Upgrade with: pip install -U {DISTRIBUTION}"
        )
    if type(found) is not int or found != version:
        raise DocumentError(f"{name}: schema_version is {found!r:.40}; expected {version}")


def _likeness(data: dict[str, Any], kind: object) -> str:
    if kind is not None:
        return f"its field 'kind' is {kind!r:.80}"
    for names, what in SEEN_BEFORE:
        if names <= set(data):
            return f"it looks like {what}"
    return "it has no field 'kind'"


def _json_type(data: object) -> str:
    if data is None:
        return "null"
    names = {list: "a list", str: "a text", bool: "a truth value", int: "a number", float: "a number"}
    return names.get(type(data), type(data).__name__)


def validated(model: type[DocumentT], data: object, name: str) -> DocumentT:
    """``data`` as a ``model``. Raises :class:`DocumentError` that names the first faulty field."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise DocumentError(f"{name}: {first_fault(error)}") from error
    except RecursionError as error:
        raise DocumentError(f"{name}: it is nested too deeply") from error


def first_fault(error: ValidationError) -> str:
    """The first fault that pydantic found, as ``invariants[3].text: input should be a valid string``."""
    fault = error.errors(include_url=False)[0]
    place = ""
    for part in fault["loc"]:
        place += f"[{part}]" if isinstance(part, int) else f".{part}" if place else str(part)
    message = {"extra_forbidden": "unknown field", "missing": "this field is missing"}.get(
        fault["type"], fault["msg"].removeprefix("Value error, ")
    )
    message = message[:1].lower() + message[1:]
    return f"{place:.200}: {message}" if place else message
