"""Whatever is wrong with a trace is one line that names the file and the place."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from traincheck.events import Process, Record
from traincheck.trace import Part, TraceError, TraceVersionError, open_trace
from traincheck.trace.header import METADATA_KEY
from traincheck.trace.schema import SCHEMA

StepOf = Callable[..., list[Record]]
WriteTrace = Callable[..., Path]


@pytest.fixture
def trace(write_trace: WriteTrace, step_of: StepOf, step_by_step: None) -> Path:
    return write_trace((Process(pid=1), step_of(0) + step_of(1)))


def refusal(directory: Path) -> str:
    """The one line with which the trace is refused, at opening or at reading."""
    with pytest.raises(TraceError) as caught:
        list(open_trace(directory).windows())
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_missing_directory_says_how_to_record(tmp_path: Path) -> None:
    message = refusal(tmp_path / "absent")

    assert f"{tmp_path / 'absent'} does not exist" in message
    assert "traincheck-collect" in message


def test_a_file_is_not_a_trace(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    assert "is a file" in refusal(tmp_path / "file")


def test_a_directory_of_traces_lists_them(trace: Path) -> None:
    assert str(trace) in refusal(trace.parent)


def test_a_directory_without_manifest_is_not_a_trace(tmp_path: Path) -> None:
    assert f"{tmp_path} is not a trace" in refusal(tmp_path)


def test_a_trace_without_parts_is_empty_and_names_the_command(write_trace: WriteTrace) -> None:
    message = refusal(write_trace())

    assert "empty trace" in message
    assert "python train.py" in message


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, "\x00"])
def test_a_manifest_that_is_no_json_object_is_refused(trace: Path, text: str) -> None:
    (trace / "manifest.json").write_text(text)

    assert str(trace / "manifest.json") in refusal(trace)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"command": "python"}, "command"),
        ({"command": [1]}, "command.0"),
        ({"started_at": "yesterday"}, "started_at"),
        ({"world_size": 0}, "world_size"),
        ({"secrets": {}}, "secrets"),
        ({"environment": {"HF_TOKEN": "x"}}, "HF_TOKEN"),
    ],
)
def test_a_wrong_field_of_the_manifest_is_named(trace: Path, change: dict[str, Any], place: str) -> None:
    path = trace / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))

    message = refusal(trace)
    assert str(path) in message
    assert place in message


@pytest.mark.parametrize("version", [2, 0, "1", None, True, 1.0])
def test_a_manifest_of_another_version_is_refused(trace: Path, version: object) -> None:
    path = trace / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": version}))

    with pytest.raises(TraceVersionError, match=f"manifest.json.*{version}"):
        open_trace(trace)


def test_a_newer_version_says_to_upgrade(trace: Path) -> None:
    path = trace / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 2, "new_field": 1}))

    assert "pip install -U" in refusal(trace)


@pytest.mark.parametrize("content", [b"\xff", b"hello, I am not Arrow", b"\xff" * 64, b"\x00" * 64])
def test_a_part_that_is_not_arrow_is_refused(trace: Path, content: bytes) -> None:
    path = trace / "parts" / "0-1.arrow"
    path.write_bytes(content)

    assert str(path) in refusal(trace)


def test_a_process_that_ended_before_it_wrote_does_not_spoil_the_trace(trace: Path) -> None:
    (trace / "parts" / "1-2.arrow").write_bytes(b"")

    assert ["0-1.arrow"] == [part.path.name for part in open_trace(trace).parts]


def header(**change: object) -> dict[bytes, bytes]:
    facts = {"schema_version": 1, "rank": 0, "world_size": 1, "pid": 1, "framework": "pytorch", "versions": {}}
    return {METADATA_KEY: json.dumps(facts | {"started_ns": 0, "launch": ""} | change).encode()}


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        (SCHEMA, "no header"),
        (SCHEMA.with_metadata({METADATA_KEY: b"[]"}), "no header"),
        (SCHEMA.with_metadata({METADATA_KEY: b"{"}), "no header"),
        (SCHEMA.with_metadata(header(schema_version=2)), "trace format 2"),
        (SCHEMA.with_metadata(header(rank="0")), "header: field 'rank'"),
        (SCHEMA.with_metadata(header(world_size=0)), "header: field 'world_size'"),
        (SCHEMA.with_metadata(header(host="node1")), "header: field 'host'"),
        (SCHEMA.remove(3).with_metadata(header()), "column 'end' is missing"),
        (SCHEMA.set(1, pa.field("seq", pa.int32())).with_metadata(header()), "column 'seq' is int32; expected int64"),
        (SCHEMA.append(pa.field("extra", pa.int64())).with_metadata(header()), "extra"),
        (SCHEMA.append(pa.field("a\nb", pa.int64())).with_metadata(header()), "a b"),
        (SCHEMA.append(SCHEMA.field("seq")).with_metadata(header()), "once each"),
    ],
)
def test_a_part_of_another_shape_is_refused(trace: Path, schema: Any, place: str) -> None:
    path = trace / "parts" / "0-1.arrow"
    with pa.ipc.new_stream(path, schema):
        pass

    message = refusal(trace)
    assert str(path) in message
    assert place in message


def rewrite(path: Path, row: int, **cells: object) -> None:
    """Write the part again with other cells in one row of its second batch."""
    with pa.ipc.open_stream(path) as stream:
        schema, batches = stream.schema, list(stream)
    rows = batches[1].to_pylist()
    rows[row] |= cells
    with pa.ipc.new_stream(path, schema) as writer:
        writer.write_batch(batches[0])
        writer.write_batch(pa.RecordBatch.from_pylist(rows, SCHEMA))


VARIABLES_ROW, CALL_ROW, STATE_ROW, STEP_ROW = 0, 1, 4, 5


@pytest.mark.parametrize(
    ("row", "cells", "place"),
    [
        (CALL_ROW, {"kind": "cal"}, "field 'kind' is 'cal'"),
        (CALL_ROW, {"kind": None}, "field 'kind' is None"),
        (CALL_ROW, {"seq": None}, "field 'seq' is null"),
        (CALL_ROW, {"step": None}, "field 'step' is null"),
        (CALL_ROW, {"api": None}, "field 'api' is null"),
        (CALL_ROW, {"duration_ns": None}, "field 'duration_ns' is null"),
        (CALL_ROW, {"args": "{"}, "field 'args'"),
        (CALL_ROW, {"args": "[" * 100_000}, "field 'args'"),
        (CALL_ROW, {"args": '{"a":{}}'}, "field 'args'"),
        (CALL_ROW, {"out": '{"a":NaN}'}, "field 'out'"),
        (STATE_ROW, {"names": None}, "field 'names' is null"),
        (STATE_ROW, {"names": [None] * 8}, "field 'names' has a null entry"),
        (STATE_ROW, {"hashes": [1]}, "field 'hashes' has 1 entries for 8 names"),
        (STATE_ROW, {"hashes": []}, "field 'hashes' has 0 entries for 8 names"),
        (STATE_ROW, {"values": [1.0]}, "field 'values' has 1 entries for 8 names"),
        (STATE_ROW, {"variable": "lr", "values": []}, "field 'values' has 0 entries for 8 names"),
        (VARIABLES_ROW, {"payload": None}, "field 'payload' is null"),
        (VARIABLES_ROW, {"payload": "{}"}, "field 'payload'"),
        (VARIABLES_ROW, {"payload": "[" * 100_000}, "field 'payload'"),
        (VARIABLES_ROW, {"payload": "[{}]"}, "variable 0"),
        (STEP_ROW, {"recorded": None}, "field 'recorded' is null"),
    ],
)
def test_a_damaged_cell_is_named_by_batch_row_and_field(
    trace: Path, row: int, cells: dict[str, object], place: str
) -> None:
    path = trace / "parts" / "0-1.arrow"
    rewrite(path, row, **cells)

    message = refusal(trace)
    assert f"{path}, batch 1, row {row}" in message
    assert place in message


@pytest.mark.parametrize("change", [{"shape": [1.5]}, {"shape": "64"}, {"trainable": 1}, {"name": None}, {"new": 1}])
def test_a_variable_of_another_shape_is_refused(trace: Path, change: dict[str, object]) -> None:
    path = trace / "parts" / "0-1.arrow"
    with pa.ipc.open_stream(path) as stream:
        variables = json.loads(stream.read_next_batch()["payload"][0].as_py())
    rewrite(path, VARIABLES_ROW, payload=json.dumps([variables[0], variables[1] | change]))

    assert "field 'payload': variable 1" in refusal(trace)


def test_damage_in_the_middle_is_not_taken_for_a_cut(trace: Path) -> None:
    path = trace / "parts" / "0-1.arrow"
    content = path.read_bytes()
    second = content.rindex(b"\xff\xff\xff\xff", 0, -8)
    path.write_bytes(content[:second] + b"\x41" * 64 + content[second + 64 :])

    assert f"{path}, batch 1: damaged" in refusal(trace)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_flipped_bytes_are_read_or_refused_but_never_crash(trace: Path, data: st.DataObject) -> None:
    whole = (trace / "parts" / "0-1.arrow").read_bytes()
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = trace.parent / "damaged.arrow"
    path.write_bytes(damaged)
    with contextlib.suppress(TraceError):
        list(Part(path).records())
