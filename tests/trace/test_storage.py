"""A trace on object storage is read as one in a folder is; what cannot be opened says what is missing."""

from __future__ import annotations

import builtins
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pytest

from traincheck.events import Process, Record
from traincheck.infer import infer
from traincheck.trace import TraceError, open_trace
from traincheck.trace.header import FOLLOWS_KEY
from traincheck.trace.layout import tail_of
from traincheck.trace.storage import RemotePath, trace_path

StepOf = Callable[..., list[Record]]
WriteTrace = Callable[..., Path]


@pytest.fixture
def url() -> Iterator[str]:
    """A place in the memory of this process that behaves as object storage does."""
    storage = fsspec.filesystem("memory")
    storage.makedirs("/bucket", exist_ok=True)
    yield "memory://bucket/runs/trace"
    storage.rm("/bucket", recursive=True)


@pytest.fixture
def trace(write_trace: WriteTrace, step_of: StepOf, step_by_step: None) -> Path:
    records = [record for step in range(40) for record in step_of(step, calls=40)]
    return write_trace((Process(0, 2, 11), records), (Process(1, 2, 12), records))


def upload(directory: Path, url: str) -> str:
    fsspec.filesystem("memory").put(f"{directory}/", url, recursive=True)
    return url


def test_the_same_windows_come_from_a_url(trace: Path, url: str) -> None:
    local, remote = open_trace(trace), open_trace(upload(trace, url))

    assert local.manifest == remote.manifest
    assert [part.process for part in local.parts] == [part.process for part in remote.parts]
    assert [f"{url}/parts/0-11.arrow", f"{url}/parts/1-12.arrow"] == [str(part.path) for part in remote.parts]
    records = [[list(part.records()) for part in side.parts] for side in (local, remote)]
    assert 2 * 40 * 43 == sum(map(len, records[0]))
    assert records[0] == records[1]


def test_the_same_invariants_come_from_a_url(trace: Path, url: str) -> None:
    local, remote = infer([str(trace)]), infer([upload(trace, url)])

    assert local.dropped
    assert (local.invariants, local.dropped) == (remote.invariants, remote.dropped)
    assert "trace" == remote.runs[0].name
    assert local.runs[0].identity == remote.runs[0].identity


def test_a_part_that_was_cut_off_is_read_up_to_its_last_step(trace: Path, url: str) -> None:
    part = trace / "parts" / "0-11.arrow"
    part.write_bytes(part.read_bytes()[:-100])

    local, remote = (list(open_trace(place).parts[0].records()) for place in (trace, upload(trace, url)))
    assert 39 * 43 == len(local)
    assert local == remote


def test_a_tail_is_read_too(trace: Path, url: str) -> None:
    """What a killed process leaves: the part is cut after its first batches, the others are in the tail."""
    part = trace / "parts" / "0-11.arrow"
    with pa.ipc.open_stream(part) as stream:
        schema, batches = stream.schema, list(stream)
    with pa.ipc.new_stream(part, schema) as written:
        for batch in batches[:30]:
            written.write_batch(batch)
    with pa.ipc.new_stream(tail_of(part), schema.with_metadata({FOLLOWS_KEY: b"30"})) as written:
        for batch in batches[30:]:
            written.write_batch(batch)

    local, remote = (list(open_trace(place).parts[0].records()) for place in (trace, upload(trace, url)))
    assert 40 * 43 == len(local)
    assert local == remote


def refusal(place: str) -> str:
    with pytest.raises(TraceError) as caught:
        open_trace(place)
    message = str(caught.value)
    assert place in message
    assert "\n" not in message
    return message


def test_what_is_wrong_at_a_url_is_told_as_in_a_folder(trace: Path, url: str) -> None:
    assert "does not exist" in refusal(url)
    upload(trace, url)
    assert "is a file" in refusal(f"{url}/manifest.json")
    assert f"Traces in it: {url}" in refusal("memory://bucket/runs")
    fsspec.filesystem("memory").pipe(f"{url}/manifest.json", b"\xff")
    assert "manifest.json is not JSON" in refusal(url)


def test_storage_that_does_not_answer_is_one_line(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> None:
        raise RuntimeError("Access Denied")

    with monkeypatch.context() as patched:
        patched.setattr(fsspec.filesystem("memory"), "exists", denied)

        assert "cannot be read: RuntimeError: Access Denied" in refusal(url)


def test_a_protocol_that_nothing_opens_is_named() -> None:
    assert "nothing installed opens nosuch://" in refusal("nosuch://bucket/run")


def test_a_protocol_whose_package_is_missing_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(protocol: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "filesystem", missing)

    assert "Install s3fs to access S3" in refusal("s3://bucket/run")


def test_without_fsspec_one_line_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    load = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "fsspec":
            raise ImportError(name)
        return load(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)

    assert "pip install 'traincheck-suite[storage]'" in refusal("s3://bucket/run")


def test_a_path_is_local_and_so_is_a_file_url(tmp_path: Path) -> None:
    assert tmp_path == trace_path(tmp_path) == trace_path(str(tmp_path)) == trace_path(f"file://{tmp_path}")
    assert Path("/a b") == trace_path("file:///a%20b")
    assert RemotePath("memory://a/b") == trace_path("memory://a/b")


def test_local_paths_need_no_fsspec(trace: Path) -> None:
    program = (
        f"import sys; from traincheck.trace import open_trace\n"
        f"sum(1 for window in open_trace({str(trace)!r}).windows())\n"
        f"sys.exit(bool({{'fsspec', 'torch'}} & set(sys.modules)))"
    )

    assert 0 == subprocess.run([sys.executable, "-c", program], check=False).returncode
