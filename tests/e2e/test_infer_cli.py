"""``traincheck-infer`` on further traces and on other engines: the same file as from all traces in one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_check_cli import run, write_trace

UPDATED = ("clean", "other", "third")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three traces, and what is inferred from all of them at once."""
    folder = tmp_path_factory.mktemp("runs")
    for seed, name in enumerate(UPDATED):
        write_trace(folder / name, seed, stuck=name == "third")
    assert 0 == run("infer", *UPDATED, "-o", "all.json", "--jobs", 1, cwd=folder).returncode
    return folder


def document(path: Path) -> dict[str, Any]:
    """What a file of invariants says, but for the time at which it was written."""
    content: dict[str, Any] = json.loads(path.read_text())
    del content["provenance"]["created"]
    return content


def evidence(path: Path) -> bytes:
    return path.with_suffix(".evidence.json.gz").read_bytes()


def test_an_update_gives_the_file_of_all_traces_at_once(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "invariants.json"
    run("infer", "clean", "-o", file, cwd=folder)
    before = document(file)
    done = run("infer", "--update", file, "other", "third", cwd=folder)

    assert (0, "") == (done.returncode, done.stderr)
    assert f"from 3 runs with 36 steps, written to {file}" in done.stdout
    assert document(folder / "all.json") == document(file) != before
    assert evidence(folder / "all.json") == evidence(file)


def test_an_update_can_be_written_elsewhere(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "invariants.json"
    run("infer", "clean", "-o", file, cwd=folder)
    before = file.read_bytes()
    run("infer", "--update", file, "other", "third", "-o", tmp_path / "more.json", cwd=folder)

    assert before == file.read_bytes()
    assert document(folder / "all.json") == document(tmp_path / "more.json")


def test_old_traces_are_not_read_again(folder: Path, tmp_path: Path) -> None:
    write_trace(tmp_path / "gone", 0)
    run("infer", "gone", "-o", "invariants.json", cwd=tmp_path)
    for part in (tmp_path / "gone" / "parts").iterdir():
        part.unlink()

    assert 0 == run("infer", "--update", "invariants.json", folder / "other", cwd=tmp_path).returncode


def test_a_trace_that_is_known_counts_once(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "invariants.json"
    run("infer", *UPDATED, "-o", file, cwd=folder)
    done = run("infer", "--update", file, "clean", cwd=folder)

    assert (0, "traincheck-infer: clean was given before: it counts once\n") == (done.returncode, done.stderr)
    assert document(folder / "all.json") == document(file)


def refusal(*arguments: object, cwd: Path, **environment: str) -> str:
    """The one line with which the command refuses."""
    done = run("infer", *arguments, cwd=cwd, **environment)

    assert (2, "") == (done.returncode, done.stdout)
    assert 1 == done.stderr.count("\n")
    return done.stderr


def test_a_file_without_evidence_says_how_to_get_it(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "invariants.json"
    file.write_bytes((folder / "all.json").read_bytes())

    message = refusal("--update", file, "clean", cwd=folder)
    assert "its evidence, invariants.evidence.json.gz, is not beside it" in message
    assert f"traincheck-infer TRACE... -o {file}" in message


def test_evidence_of_other_invariants_is_refused(folder: Path, tmp_path: Path) -> None:
    run("infer", "clean", "-o", tmp_path / "invariants.json", cwd=folder)
    (tmp_path / "invariants.evidence.json.gz").write_bytes(evidence(folder / "all.json"))

    assert "belongs to other invariants" in refusal("--update", tmp_path / "invariants.json", "other", cwd=folder)


@pytest.mark.parametrize("content", [b"", b"not compressed", b"\x1f\x8b\x08\x00"])
def test_damaged_evidence_is_refused(folder: Path, tmp_path: Path, content: bytes) -> None:
    run("infer", "clean", "-o", tmp_path / "invariants.json", cwd=folder)
    (tmp_path / "invariants.evidence.json.gz").write_bytes(content)

    assert "invariants.evidence.json.gz" in refusal("--update", tmp_path / "invariants.json", "other", cwd=folder)


def test_what_is_no_file_of_invariants_is_not_updated(folder: Path) -> None:
    assert "is a trace" in refusal("--update", "clean", "other", cwd=folder)
    assert "cannot be read" in refusal("--update", "absent.json", "other", cwd=folder)


def test_a_pipe_gets_the_invariants_and_no_evidence(folder: Path) -> None:
    done = run("infer", "clean", "-o", "/dev/stdout", cwd=folder)

    assert 0 == done.returncode
    assert '"kind": "traincheck-invariants"' in done.stdout
    assert not Path("/dev/stdout.evidence.json.gz").exists()


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ray") is None, reason="needs ray")
def test_ray_gives_the_same_file(folder: Path, tmp_path: Path) -> None:
    done = run("infer", *UPDATED, "--engine", "ray", "-j", 2, "-o", tmp_path / "ray.json", cwd=folder)

    assert (0, "") == (done.returncode, done.stderr)
    assert document(folder / "all.json") == document(tmp_path / "ray.json")
    assert evidence(folder / "all.json") == evidence(tmp_path / "ray.json")


SHARED_OUT = """
import sys
from traincheck import gathering
gathering.WORTH_A_PROCESS_BYTES = 1
from traincheck.evidence import merged
from traincheck.ray_engine import RayCluster
cluster = RayCluster(3)
alone = gathering.gather([gathering.survey(sys.argv[1])], gathering.Processes())
shared = gathering.gather([gathering.survey(sys.argv[1])], cluster, lambda done, total: print(done, total))
assert list(alone) == list(shared)
"""


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ray") is None, reason="needs ray")
def test_ray_shares_out_one_trace(folder: Path) -> None:
    program = [sys.executable, "-c", SHARED_OUT, str(folder / "third")]
    done = subprocess.run(program, capture_output=True, text=True, timeout=120, check=False)

    assert (0, "1 3\n2 3\n3 3\n") == (done.returncode, done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ray") is None, reason="needs ray")
def test_what_ray_cannot_read_is_one_line(folder: Path, tmp_path: Path) -> None:
    path = write_trace(tmp_path / "damaged", 0)
    (part,) = (path / "parts").iterdir()
    content = part.read_bytes()
    middle = content.rindex(b"\xff\xff\xff\xff", 0, -8)
    part.write_bytes(content[:middle] + b"\x41" * 64 + content[middle + 64 :])

    assert "damaged at byte" in refusal(path, "clean", "--engine", "ray", "-j", 2, cwd=folder)


def test_without_ray_one_line_names_the_command(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "ray.py").write_text("raise ImportError('no ray here')")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])

    message = refusal("clean", "--engine", "ray", cwd=folder, PYTHONPATH=path)
    assert "pip install 'traincheck-suite[ray]'" in message


def test_a_file_url_is_a_folder(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "with a space").symlink_to(folder)
    urls = [f"file://{tmp_path}/with%20a%20space/{name}" for name in UPDATED]
    done = run("infer", *urls, "-o", tmp_path / "url.json", cwd=folder)

    assert (0, "") == (done.returncode, done.stderr)
    assert document(folder / "all.json") == document(tmp_path / "url.json")


def test_a_url_is_checked_as_its_folder_is(folder: Path) -> None:
    run("infer", "clean", "other", "-o", "two.json", cwd=folder)
    by_path, by_url = (
        run("check", place, "-i", "two.json", cwd=folder) for place in (folder / "third", f"file://{folder}/third")
    )

    assert 1 == by_url.returncode
    assert by_path.stdout == by_url.stdout


@pytest.mark.parametrize(
    ("url", "telling"),
    [
        ("nosuch://bucket/run", "nothing installed opens nosuch://"),
        ("memory://empty/run", "memory://empty/run does not exist"),
        ("http://127.0.0.1:9/run", "http"),
    ],
)
def test_a_url_that_cannot_be_read_is_one_line(tmp_path: Path, url: str, telling: str) -> None:
    assert telling in refusal(url, cwd=tmp_path)
