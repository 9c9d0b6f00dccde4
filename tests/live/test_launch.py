"""The launcher leaves the environment of a command as it was but for the switch, and its sitecustomize gives way."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from traincheck.errors import UserError
from traincheck.governed import Governed
from traincheck.launch import BOOTSTRAP, VARIABLE, Launch, check_command, environment, read_launch


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, [str(BOOTSTRAP)]),
        ("", [str(BOOTSTRAP)]),
        ("a:b", [str(BOOTSTRAP), "a", "b"]),
        ("a:", [str(BOOTSTRAP), "a", ""]),
        (f"{BOOTSTRAP}:a", [str(BOOTSTRAP), "a"]),
    ],
)
def test_the_path_keeps_its_entries(before: str | None, after: list[str]) -> None:
    current = {"HOME": "/home/me", VARIABLE: "an outer launch"} | ({} if before is None else {"PYTHONPATH": before})

    changed = environment(current, Path("launch.json"))

    assert after == changed.pop("PYTHONPATH").split(os.pathsep)
    assert {"HOME": "/home/me", VARIABLE: "launch.json"} == changed


def test_a_launch_is_read_back_and_anything_else_is_refused(tmp_path: Path) -> None:
    launch = Launch(mode="collect", directory="t", modules=("mypkg",))
    (tmp_path / "good.json").write_text(launch.model_dump_json())
    (tmp_path / "bad.json").write_text('{"mode": "collect", "directory": "t", "run": "rm"}')

    assert launch == read_launch(tmp_path / "good.json")
    with pytest.raises(UserError, match="is not a launch"):
        read_launch(tmp_path / "bad.json")


PROBE = """
import importlib.util, sys
importlib.util.find_spec("torch")
import torch
print(getattr(sys, "user_was_here", None), sys.path.count(sys.argv[1]), sorted(vars(torch.__loader__)))
print([type(finder).__name__ for finder in sys.meta_path].count("WhenTorchIsImported"))
"""


@pytest.mark.parametrize(("user_has_one", "ran"), [(True, "True"), (False, "None")])
def test_imports_and_the_path_are_as_without_us(tmp_path: Path, user_has_one: bool, ran: str) -> None:
    """With a stand-in for torch, which begins no recording because of the name of the program."""
    (tmp_path / "torch.py").write_text("")
    (tmp_path / "traincheck-probe").write_text(PROBE)
    if user_has_one:
        (tmp_path / "sitecustomize.py").write_text("import sys\nsys.user_was_here = True\n")
    changed = environment({**os.environ, "PYTHONPATH": str(tmp_path)}, tmp_path / "launch.json")

    out = subprocess.run(
        [sys.executable, str(tmp_path / "traincheck-probe"), str(BOOTSTRAP)],
        env=changed,
        capture_output=True,
        text=True,
        check=True,
    )

    assert f"{ran} 0 ['name', 'path']\n0\n" == out.stdout
    assert "" == out.stderr


def test_a_fault_at_the_start_of_recording_is_one_line_and_the_program_runs_on(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("")
    changed = environment({**os.environ, "PYTHONPATH": str(tmp_path)}, tmp_path / "missing.json")

    out = subprocess.run(
        [sys.executable, "-c", "import torch; print('trained')"],
        env=changed,
        capture_output=True,
        text=True,
        check=True,
    )

    assert "trained\n" == out.stdout
    assert out.stderr.startswith(f"traincheck: nothing is recorded by {sys.executable}: ")
    assert 1 == out.stderr.count("\n")


def test_a_command_that_never_trains_is_not_checked_and_keeps_its_status(capfd: pytest.CaptureFixture[str]) -> None:
    status, result = check_command(["sh", "-c", "echo out; exit 6"], [], stdout_to_stderr=True)

    assert (6, 0, 0) == (status, result.exercised, result.steps)
    assert ("", "out\n") == tuple(capfd.readouterr())


def test_the_governor_is_told_what_a_step_took_and_what_of_it_was_ours() -> None:
    now_ns, spent_ns = 0, 0
    governed = Governed(0.1, lambda: spent_ns, lambda: now_ns)
    recorded = following = 0
    for step in range(1000):
        if step >= following:  # those before it are left out without being asked for
            following = governed(step)
        recorded += following == step
        cost_ns = 50_000_000 if following == step else 0
        now_ns += 100_000_000 + cost_ns
        spent_ns += cost_ns

    assert 100 < recorded < 250
