"""``traincheck-collect`` runs any command as it is, and records what its processes train."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from traincheck.launch import BOOTSTRAP, VARIABLE
from traincheck.trace import Trace, open_trace
from traincheck.vocabulary import OPTIMIZER_STEP

BIN = Path(sys.executable).parent
COLLECT = str(BIN / "traincheck-collect")

MODEL = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.body(x).relu())
"""

TRAIN = """
import torch
from {package}model import Net

def train(steps=6, workers=0):
    torch.manual_seed(0)
    data = torch.utils.data.TensorDataset(torch.randn(4 * steps, 4), torch.randint(0, 2, (4 * steps,)))
    loader = torch.utils.data.DataLoader(data, batch_size=4, num_workers=workers)
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for inputs, targets in loader:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(inputs), targets).backward()
        optimizer.step()
        yield
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a small project: the model in one file, its training in another, both also as a package."""
    for folder, package in ((tmp_path, ""), (tmp_path / "pkg", "pkg.")):
        folder.mkdir(exist_ok=True)
        (folder / "model.py").write_text(MODEL)
        (folder / "training.py").write_text(TRAIN.format(package=package))
    return tmp_path


def collect(project: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Record ``command``, run in ``project``, to ``project/t``."""
    return subprocess.run(
        [COLLECT, "-o", "t", *command],
        cwd=project,
        env={**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def steps(trace: Trace) -> dict[tuple[int, int], int]:
    """For each rank and process the number of optimizer steps that it recorded."""
    taken: dict[tuple[int, int], int] = {}
    for window in trace.windows():
        key = (window.process.rank, window.process.pid)
        taken[key] = taken.get(key, 0) + len(window.named(OPTIMIZER_STEP))
    return taken


def test_a_script_with_workers_and_children_of_all_kinds(project: Path) -> None:
    (project / "train.py").write_text(
        """
import subprocess, sys
from training import train

if __name__ == "__main__":
    subprocess.run([sys.executable, "-c", "print('a child without torch')"], check=True)
    subprocess.run([sys.executable, "-c", "import torch; print('a child that does not train')"], check=True)
    for _ in train(workers=2):
        pass
    print("done", *sys.argv[1:], flush=True)
    sys.exit(3)
"""
    )

    ran = collect(project, "--", "python", "train.py", "--lr", "1", "-o", "x")

    assert 3 == ran.returncode, ran.stderr
    assert ran.stdout.splitlines()[-1] == "done --lr 1 -o x"
    assert ran.stderr.startswith("traincheck-collect: recorded ")
    assert [6] == list(steps(open_trace(project / "t")).values())


def test_a_module_and_the_sitecustomize_of_the_user(project: Path) -> None:
    (project / "pkg" / "__main__.py").write_text("from pkg.training import train\nlist(train())\n")
    (project / "site").mkdir()
    (project / "site" / "sitecustomize.py").write_text("print('the sitecustomize of the user')")

    ran = collect(project, "python", "-m", "pkg", PYTHONPATH=str(project / "site"))

    assert 0 == ran.returncode, ran.stderr
    assert "the sitecustomize of the user" in ran.stdout
    assert [6] == list(steps(open_trace(project / "t")).values())


def test_torchrun_records_each_rank(project: Path) -> None:
    (project / "train.py").write_text(
        """
import torch.distributed as dist
from training import train

dist.init_process_group("gloo")
list(train())
dist.destroy_process_group()
"""
    )

    ran = collect(project, "torchrun", "--standalone", "--nproc-per-node", "2", "train.py")

    assert 0 == ran.returncode, ran.stderr
    trace = open_trace(project / "t")
    assert {0: 6, 1: 6} == {rank: taken for (rank, _), taken in steps(trace).items()}
    assert [2] == [len(run) for run in trace.runs]


def test_children_that_train_are_recorded(project: Path) -> None:
    (project / "train.py").write_text(
        """
import multiprocessing
from training import train

def work():
    list(train(steps=4))

if __name__ == "__main__":
    for method in ("spawn", "fork"):
        child = multiprocessing.get_context(method).Process(target=work)
        child.start()
        child.join()
        assert child.exitcode == 0
"""
    )

    ran = collect(project, "--", "python", "train.py")

    assert 0 == ran.returncode, ran.stderr
    assert [4, 4] == list(steps(open_trace(project / "t")).values())


def test_a_killed_run_leaves_a_readable_trace_and_its_status(project: Path) -> None:
    (project / "train.py").write_text(
        """
import os, signal
from training import train

for step, _ in enumerate(train()):
    if step == 4:
        os.kill(os.getpid(), signal.SIGKILL)
"""
    )

    ran = collect(project, "--", "python", "train.py")

    assert 128 + signal.SIGKILL == ran.returncode, ran.stderr
    assert [4] == list(steps(open_trace(project / "t")).values())


def test_nothing_recorded_is_said_and_leaves_nothing(project: Path) -> None:
    ran = collect(project, "--", "python", "-c", "print(1)")

    assert (0, "1\n") == (ran.returncode, ran.stdout)
    assert ran.stderr.startswith("traincheck-collect: nothing was recorded: no Python process of this command imported")
    assert not (project / "t").exists()


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (["sh", "-c", "exit 7"], 7),
        (["sh", "-c", "kill -TERM $$"], 128 + signal.SIGTERM),
        (["python", "no_such_script.py"], 2),
        (["no-such-command"], 127),
        (["./model.py"], 126),
    ],
)
def test_the_status_is_that_of_the_command(project: Path, command: list[str], status: int) -> None:
    ran = collect(project, "--", *command)

    assert status == ran.returncode
    assert "Traceback" not in ran.stderr


def test_a_command_that_does_not_exist_is_one_line(project: Path) -> None:
    assert "traincheck: no-such-command: command not found\n" == collect(project, "no-such-command").stderr


def test_without_a_command_there_is_usage(project: Path) -> None:
    ran = collect(project)

    assert 2 == ran.returncode
    assert "Usage: traincheck-collect" in ran.stderr


@pytest.mark.parametrize(
    ("inside", "line"),
    [("parts/0-1.arrow", "t already holds a trace"), ("notes.txt", "t is neither empty nor a trace")],
)
def test_nothing_of_the_user_is_overwritten(project: Path, inside: str, line: str) -> None:
    (project / "t" / inside).parent.mkdir(parents=True)
    (project / "t" / inside).write_text("kept")

    ran = collect(project, "--", "python", "-c", "print(1)")

    assert (2, "") == (ran.returncode, ran.stdout)
    assert ran.stderr.startswith(f"traincheck-collect: {line}")
    assert 1 == ran.stderr.count("\n")
    assert "kept" == (project / "t" / inside).read_text()


def test_signals_are_passed_on(project: Path) -> None:
    waiting = (
        "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(5)); print(1); time.sleep(60)"
    )
    with subprocess.Popen(
        [COLLECT, "-o", "t", "--", sys.executable, "-uc", waiting],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as collecting:
        assert collecting.stdout is not None
        assert b"1\n" == collecting.stdout.readline()
        collecting.send_signal(signal.SIGTERM)

        assert 5 == collecting.wait(timeout=20)


def test_a_child_without_torch_imports_nothing_more(project: Path) -> None:
    def imported(**environment: str) -> set[str]:
        listing = [sys.executable, "-c", "import sys; print(*sys.modules)"]
        ran = subprocess.run(listing, env={**os.environ, **environment}, check=True, capture_output=True, text=True)
        return set(ran.stdout.split())

    switched_on = {VARIABLE: str(project / "launch.json"), "PYTHONPATH": str(BOOTSTRAP)}
    assert imported(**switched_on) - imported() <= {"sitecustomize", "importlib.util"}
