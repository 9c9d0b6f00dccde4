"""One run of a command with its costs, and the commands of both sides: plain, ours and the peer's."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PROGRAM = Path(__file__).resolve().parent / "programs" / "mnist_cnn.py"
OUR_BIN = Path(sys.executable).parent
STEP_LINE = re.compile(r'\{"step": \d+, "ms": [\d.]+, "cpu_ms": [\d.]+\}')


@dataclass(frozen=True, slots=True)
class Run:
    """What a finished command printed and took, its child processes included."""

    output: str
    wall_s: float
    cpu_s: float
    peak_mb: float

    def step_durations_ms(self, clock: str = "ms") -> list[float]:
        """The wall times of the steps (``cpu_ms``: of the processor), as the program printed them."""
        return [json.loads(line)[clock] for line in STEP_LINE.findall(self.output)]


def run(
    command: Sequence[str | Path], *, where: Path, env: Mapping[str, str] | None = None, ok: Sequence[int] = (0,)
) -> Run:
    """Run ``command`` in the folder ``where``. Raises ``RuntimeError`` with its output on any other exit status.

    Python keeps compiled modules, as it does unless it is told not to: both sides start as they do for users.
    """
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", **(env or {})}
    start = time.perf_counter()
    with open(where / "output.txt", "w+", encoding="utf-8", errors="replace") as output:
        process = subprocess.Popen(list(map(str, command)), cwd=where, env=env, stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall_s = time.perf_counter() - start
        output.seek(0)
        text = output.read()
    if process.returncode not in ok:
        raise RuntimeError(f"{' '.join(map(str, command))} exited with {process.returncode}:\n{text[-3000:]}")
    return Run(text, wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def train_plain(where: Path, steps: int) -> Run:
    """The program alone."""
    return run([sys.executable, PROGRAM], where=where, env={"BENCH_STEPS": str(steps)})


def train_recorded(where: Path, steps: int, trace: Path) -> Run:
    """The program under our full collection."""
    command: list[str | Path] = [OUR_BIN / "traincheck-collect", "-o", trace, "--", sys.executable, PROGRAM]
    return run(command, where=where, env={"BENCH_STEPS": str(steps)})


def train_checked(where: Path, steps: int) -> Run:
    """The program under live checks of the zoo, every step."""
    command: list[str | Path] = [OUR_BIN / "traincheck-check", "--zoo", "pytorch", "--", sys.executable, PROGRAM]
    return run(command, where=where, env={"BENCH_STEPS": str(steps)})


def train_recorded_by_peer(where: Path, steps: int, trace: Path) -> Run:
    """The program under the peer's full collection."""
    collect: list[str | Path] = [peer_bin() / "traincheck-collect", "--pyscript", copied(PROGRAM, where)]
    options = ("--copy-all-files", "--models-to-track", "model")
    return run([*collect, "--output-dir", trace, *options], where=where, env={"BENCH_STEPS": str(steps)})


def copied(program: Path, where: Path) -> Path:
    """A copy for the peer, which writes a file beside the program, with the files that the program needs."""
    return shutil.copytree(program.parent, where / "programs", dirs_exist_ok=True) / program.name


def infer(where: Path, traces: Sequence[Path], invariants: Path, jobs: int = 1) -> Run:
    """Our inference by so many processes."""
    return run([OUR_BIN / "traincheck-infer", *traces, "-o", invariants, "-j", str(jobs)], where=where)


def check(where: Path, trace: Path, *against: str | Path) -> Run:
    """Our check of a finished trace. Findings are no failure here."""
    return run([OUR_BIN / "traincheck-check", trace, *against], where=where, ok=(0, 1))


def infer_by_peer(where: Path, trace: Path, invariants: Path) -> Run:
    """The peer's inference, as it is when nothing is chosen."""
    return run([peer_bin() / "traincheck-infer", "-f", trace, "-o", invariants], where=where)


def peer_bin() -> Path:
    """The folder of the peer's commands. Raises ``SystemExit`` when there is none."""
    python = os.environ.get("PEER_PYTHON")
    if not python:
        raise SystemExit("set PEER_PYTHON to the python of an environment with traincheck==0.2.0, or run: make bench")
    return Path(python).absolute().parent


def peer_torch() -> str:
    """The version of torch that the peer runs with."""
    code = "from importlib.metadata import version; print(version('torch'))"
    return subprocess.run(
        [peer_bin() / "python", "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def size_bytes(folder: Path, *patterns: str) -> int:
    """The size of all files below ``folder`` whose names match."""
    found = {path for pattern in patterns or ("*",) for path in folder.rglob(pattern) if path.is_file()}
    return sum(path.stat().st_size for path in found)
