"""Where a trace lies: in a local folder, or at a URL that fsspec opens (``s3://bucket/runs/good1``)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias
from urllib.parse import unquote, urlsplit

from traincheck.trace.errors import DISTRIBUTION, TraceError

SEPARATOR: Final = "://"
LOCAL: Final = "file://"


@dataclass(frozen=True, slots=True)
class RemotePath:
    """A place that a URL names: as much of ``pathlib.Path`` as reading a trace needs.

    Each method raises :class:`TraceError` when the storage cannot be asked.
    """

    url: str

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> RemotePath:
        return RemotePath(f"{self.url.rstrip('/')}/{name}")

    @property
    def name(self) -> str:
        """The last part of the URL."""
        return self.url.rstrip("/").rpartition("/")[2]

    @property
    def parent(self) -> RemotePath:
        """The URL without its last part."""
        return RemotePath(self.url.rstrip("/").rpartition("/")[0])

    def exists(self) -> bool:
        """Whether there is anything."""
        with self._asked() as storage:
            return bool(storage.exists(self.url))

    def is_dir(self) -> bool:
        """Whether there is something in it."""
        with self._asked() as storage:
            return bool(storage.isdir(self.url))

    def is_file(self) -> bool:
        """Whether it has a content of its own."""
        with self._asked() as storage:
            return bool(storage.isfile(self.url))

    def read_text(self, encoding: str = "utf-8") -> str:
        """All of the content."""
        with self._asked() as storage:
            return bytes(storage.cat_file(self.url)).decode(encoding)

    def sizes(self, pattern: str) -> dict[TracePath, int]:
        """The files below that match, in order of name, with their sizes in bytes."""
        with self._asked() as storage:
            found = storage.glob(f"{self.url.rstrip('/')}/{pattern}", detail=True)
        # Each storage writes the names in its own way, but all end in what the pattern stands for.
        depth = pattern.count("/") + 1
        return {self / "/".join(name.rsplit("/", depth)[-depth:]): found[name]["size"] or 0 for name in sorted(found)}

    def open(self) -> Any:
        """The content as a binary file."""
        with self._asked() as storage:
            return storage.open(self.url, "rb")

    @contextmanager
    def _asked(self) -> Iterator[Any]:
        """The file system behind the URL. Whatever it raises, and each raises its own, becomes one line."""
        storage = _file_system(self.url)
        try:
            yield storage
        except UnicodeDecodeError:
            raise
        except Exception as error:
            raise TraceError(f"{self.url} cannot be read: {type(error).__name__}: {error}") from error


TracePath: TypeAlias = "Path | RemotePath"


def trace_path(place: str | os.PathLike[str] | RemotePath) -> TracePath:
    """What a user wrote, as a path. Raises :class:`TraceError` for a URL that nothing installed can open."""
    if isinstance(place, RemotePath):
        return place
    text = os.fspath(place)
    if SEPARATOR not in text:
        return Path(text)
    if text.startswith(LOCAL):
        return Path(unquote(urlsplit(text).path))
    _file_system(text)
    return RemotePath(text)


def file_sizes(directory: TracePath, pattern: str) -> dict[TracePath, int]:
    """The files in ``directory`` that match, in order of name, with their sizes in bytes."""
    if isinstance(directory, Path):
        return {path: path.stat().st_size for path in sorted(directory.glob(pattern))}
    return directory.sizes(pattern)


def _file_system(url: str) -> Any:
    """fsspec keeps one for each kind of storage. It is imported for URLs only."""
    protocol = url.partition(SEPARATOR)[0]
    try:
        import fsspec
    except ImportError as error:
        raise TraceError(f"{url}: traces at URLs need fsspec: pip install '{DISTRIBUTION}[storage]'") from error
    try:
        return fsspec.filesystem(protocol)
    except (ImportError, ValueError) as error:
        # fsspec names the package itself: "Install s3fs to access S3".
        raise TraceError(f"{url}: nothing installed opens {protocol}{SEPARATOR} ({error})") from error
