"""``traincheck-infer`` and ``traincheck-check`` as users run them: exit statuses, documents, one-line errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.engine.script import NAMES, Script
from traincheck.trace import Manifest, Writer, write_manifest

BIN = Path(sys.executable).parent


def run(
    command: str, *arguments: object, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(BIN / f"traincheck-{command}"), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=cwd,
        env={**os.environ, **environment},
    )


def write_trace(directory: Path, seed: int, *, stuck: bool = False) -> Path:
    """A trace of a plain loop; ``stuck``: from step 6 on the last layer does not move."""
    write_manifest(directory, Manifest.for_command(["python", f"train_{seed}.py"]))
    script = Script(seed=seed)
    for step in range(12):
        script.step(moves=NAMES[:2] if stuck and step >= 6 else None)
    writer = Writer(directory, script.process)
    for record in script.records:
        writer.add(record)
    writer.close()
    return directory


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two clean traces, a faulty one, and the invariants of the clean ones."""
    folder = tmp_path_factory.mktemp("runs")
    write_trace(folder / "clean", 0)
    write_trace(folder / "other", 1)
    write_trace(folder / "stuck", 2, stuck=True)
    done = run("infer", "clean", "other", "-o", "invariants.json", "--jobs", 1, cwd=folder)

    assert (0, "") == (done.returncode, done.stderr)
    return folder


def test_infer_says_what_came_of_what(folder: Path) -> None:
    done = run("infer", "clean", "other", "-o", "again.json", cwd=folder)

    first, *rest = done.stdout.splitlines()
    assert first.endswith("invariants from 2 runs with 24 steps, written to again.json")
    assert any("EventContain" in line for line in rest)
    assert "traincheck-check TRACE -i again.json" in rest[-1]


def test_infer_gives_the_same_file_whatever_the_jobs(folder: Path) -> None:
    run("infer", "clean", "other", "-o", "two.json", "--jobs", 2, cwd=folder)
    one, two = (json.loads((folder / name).read_text()) for name in ("invariants.json", "two.json"))

    assert one["invariants"] == two["invariants"]


def test_why_not_tells_kept_and_dropped_and_writes_nothing(folder: Path, tmp_path: Path) -> None:
    done = run("infer", folder / "clean", "--why-not", "", cwd=tmp_path)

    assert 0 == done.returncode
    assert "kept     " in done.stdout
    assert "dropped  " in done.stdout
    assert [] == list(tmp_path.iterdir())


def test_why_not_of_what_no_hypothesis_speaks_of(folder: Path) -> None:
    done = run("infer", "clean", "--why-not", "quantum", cwd=folder)

    assert "No hypothesis speaks of 'quantum': nothing that these runs did proposes one.\n" == done.stdout


def test_what_fails_on_a_validation_trace_is_dropped(folder: Path, tmp_path: Path) -> None:
    run("infer", folder / "clean", "--validate", folder / "stuck", "-o", tmp_path / "validated.json")

    done = run("check", folder / "stuck", "-i", tmp_path / "validated.json")

    assert 0 == done.returncode, done.stdout


def test_a_clean_run_is_clean(folder: Path) -> None:
    done = run("check", "clean", "-i", "invariants.json", cwd=folder)

    assert (0, "") == (done.returncode, done.stderr)
    assert done.stdout.startswith("Clean: ")


def test_a_faulty_run_is_told_and_has_status_1(folder: Path) -> None:
    done = run("check", "stuck", "-i", "invariants.json", cwd=folder)

    assert 1 == done.returncode
    first, *rest = done.stdout.splitlines()
    assert first.startswith("1 finding: ")
    text = "\n".join(rest)
    assert "step 6" in text
    assert "Net.fc2.weight, Net.fc2.bias" in text
    assert "\x1b" not in done.stdout


def strict(text: str) -> Any:
    return json.loads(text, parse_constant=lambda name: pytest.fail(name))


def test_json_on_standard_output_is_one_document(folder: Path) -> None:
    document = strict(run("check", "stuck", "-i", "invariants.json", "--format", "json", cwd=folder).stdout)

    assert "violations" == document["verdict"]
    assert document["exercised"] == len(document["held"]) + len(document["violated"])
    assert 6 == document["findings"][0]["step"]


def test_sarif_and_junit_are_documents(folder: Path) -> None:
    sarif = strict(run("check", "stuck", "-i", "invariants.json", "--format", "sarif", cwd=folder).stdout)
    junit = run("check", "stuck", "-i", "invariants.json", "--format", "junit", cwd=folder).stdout

    assert 1 == len(sarif["runs"][0]["results"])
    assert ElementTree.fromstring(junit).findall("testsuite/testcase/failure")


def test_several_traces_are_one_verdict(folder: Path) -> None:
    done = run("check", "clean", "stuck", "other", "-i", "invariants.json", "--format", "json", cwd=folder)

    assert 1 == done.returncode
    assert ["stuck"] == [finding["run"] for finding in strict(done.stdout)["findings"]]


def test_the_report_is_written_and_its_place_is_told(folder: Path) -> None:
    done = run("check", "stuck", "-i", "invariants.json", "--report", "page", cwd=folder)

    assert "traincheck-check: report: page/index.html\n" == done.stderr
    assert "Net.fc2.weight" in (folder / "page" / "index.html").read_text()


def test_codes_are_selected_and_ignored(folder: Path) -> None:
    found = strict(run("check", "stuck", "-i", "invariants.json", "--format", "json", cwd=folder).stdout)
    violated = [entry["code"] for entry in found["violated"]]

    ignored = run("check", "stuck", "-i", "invariants.json", "--ignore", ",".join(violated), cwd=folder)
    selected = run("check", "stuck", "-i", "invariants.json", "--select", violated[0][:6], cwd=folder)

    assert 0 == ignored.returncode
    assert 1 == selected.returncode
    assert "Checked 1 invariant;" in selected.stdout


def test_nothing_exercised_is_not_clean(folder: Path, tmp_path: Path) -> None:
    silent = tmp_path / "silent"
    write_manifest(silent, Manifest.for_command(["python", "nothing.py"]))
    script = Script()
    script.end()
    writer = Writer(silent, script.process)
    for record in script.records:
        writer.add(record)
    writer.close()

    done = run("check", silent, "-i", folder / "invariants.json")
    machine = run("check", silent, "-i", folder / "invariants.json", "--format", "json")

    assert [2, 2] == [done.returncode, machine.returncode]
    assert done.stdout.startswith("NOT CHECKED: ")
    assert "not checked" == strict(machine.stdout)["verdict"]
    assert "NOT CHECKED" in machine.stderr


def test_an_own_invariant_is_explained_by_its_id(folder: Path) -> None:
    document = json.loads((folder / "invariants.json").read_text())
    first = document["invariants"][0]

    done = run("check", "--explain", first["id"], "-i", "invariants.json", cwd=folder)

    assert 0 == done.returncode
    assert first["id"] in done.stdout


MISTAKES: dict[str, tuple[list[str], str]] = {
    "nothing to check": ([], "nothing to check: give a TRACE"),
    "a missing trace": (["nowhere", "-i", "invariants.json"], "nowhere does not exist"),
    "a file as trace": (
        ["invariants.json", "-i", "invariants.json"],
        "invariants.json is a file; a trace is a directory",
    ),
    "a missing file": (["clean", "-i", "nowhere.json"], "nowhere.json cannot be read"),
    "a trace as invariants": (["clean", "-i", "clean"], "clean is a trace, not a file of invariants"),
    "an unknown pack": (["clean", "--zoo", "theano"], "there is no zoo pack 'theano'"),
    "an unknown version": (["clean", "--zoo", "pytorch@99"], "there is no zoo pack 'pytorch@99'"),
    "an unknown code": (["--explain", "OPT999"], "the code 'OPT999'"),
    "a code that selects nothing": (["clean", "-i", "invariants.json", "--select", "zz"], "begins with 'zz'"),
    "both": (["clean", "-i", "invariants.json", "--", "true"], "not both"),
    "no such command": (["-i", "invariants.json", "--", "no-such-command"], "no-such-command: command not found"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_and_status_2(folder: Path, name: str) -> None:
    arguments, reason = MISTAKES[name]

    done = run("check", *arguments, cwd=folder)

    assert (2, "") == (done.returncode, done.stdout)
    (line,) = done.stderr.splitlines()
    assert reason in line


def test_infer_refuses_what_is_no_trace_and_keeps_what_was_there(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "invariants.json").write_text("precious")

    done = run("infer", "nowhere", cwd=tmp_path)

    assert 2 == done.returncode
    assert 1 == len(done.stderr.splitlines())
    assert "precious" == (tmp_path / "invariants.json").read_text()


def test_a_command_that_fails_untrained_is_not_clean(folder: Path) -> None:
    done = run("check", "-i", "invariants.json", "--", sys.executable, "-c", "raise SystemExit(3)", cwd=folder)

    assert 2 == done.returncode
    assert "ended with status 3" in done.stderr
    assert done.stdout.startswith("\nNOT CHECKED: ")


def test_what_the_command_prints_stays_out_of_the_document(folder: Path) -> None:
    command = [sys.executable, "-c", "print('loss 0.1')"]
    done = run("check", "-i", "invariants.json", "--format", "json", "--", *command, cwd=folder)

    assert "not checked" == strict(done.stdout)["verdict"]
    assert "loss 0.1" in done.stderr


def test_a_reader_that_goes_away_does_not_change_the_status(folder: Path) -> None:
    command = f"{BIN / 'traincheck-check'} stuck -i invariants.json --format json"
    script = f"set -o pipefail; {command} | true"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=folder, timeout=60, check=False)

    assert (1, "") == (done.returncode, done.stderr)


@pytest.mark.parametrize("command", ["check", "infer"])
def test_help_tells_the_exit_status_and_imports_little(command: str) -> None:
    done = run(command, "--help", PYTHONPROFILEIMPORTTIME="1")
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}

    assert 0 == done.returncode
    assert "Exit status: 0" in done.stdout
    assert not {"torch", "pyarrow", "pydantic", "jinja2", "rich"} & imported


def test_the_import_test_can_fail() -> None:
    command = [sys.executable, "-X", "importtime", "-c", "import pydantic"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}

    assert "pydantic" in imported
