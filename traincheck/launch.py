"""Runs any command unchanged, with recording or live checking switched on in all its Python processes.

The switch is an environment variable that names a file of ours, and a folder in front of ``PYTHONPATH`` whose
``sitecustomize`` reads it. The command keeps its terminal, its arguments, its signals and its exit status.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from types import FrameType
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from traincheck import last_words
from traincheck.errors import UserError
from traincheck.findings import CheckResult
from traincheck.invariant import Invariant
from traincheck.invariant_file import Provenance, save_invariants
from traincheck.verdicts import merged, read_verdicts

VARIABLE: Final = "TRAINCHECK_LAUNCH"
BOOTSTRAP: Final = Path(__file__).with_name("bootstrap")

NOT_FOUND: Final = 127
NOT_EXECUTABLE: Final = 126
SIGNAL_BASE: Final = 128
"""A command that signal ``n`` ended has the status ``128 + n``, as in shells."""


class Launch(BaseModel):
    """What the processes below the launcher are told."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    schema_version: Literal[1] = 1
    mode: Literal["collect", "check"]
    directory: str
    """Where each process writes: the trace directory, or the folder of verdicts."""
    modules: tuple[str, ...] = ()
    """Packages whose functions are recorded too."""
    invariants: str = ""
    """For ``check``: the file of all invariants to check."""


def read_launch(path: Path) -> Launch:
    """The launch that :func:`session` wrote. Raises :class:`UserError`."""
    try:
        return Launch.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        raise UserError(f"{path} is not a launch of this traincheck: {error}") from error


def check_command(
    command: Sequence[str], invariants: Sequence[Invariant], *, stdout_to_stderr: bool = False
) -> tuple[int, CheckResult]:
    """Run ``command`` and check its training against ``invariants`` in its own processes.

    Returns the status of the command and the verdict of all its processes together. ``stdout_to_stderr`` keeps our
    stdout free for one document.
    """
    with session() as folder:
        verdicts = folder / "verdicts"
        verdicts.mkdir()
        path = folder / "invariants.json"
        save_invariants(path, invariants, Provenance(created=datetime.now(timezone.utc).isoformat(), traincheck=""))
        launch = Launch(mode="check", directory=str(verdicts), invariants=str(path))
        status = run(command, launch, folder, stdout_to_stderr=stdout_to_stderr)
        # A rank that a collective ended said what it was about to do, and nothing else.
        last = [last_words.judged(verdicts, invariants)] if status else []
        return status, merged([*read_verdicts(verdicts), *last], invariants)


@contextmanager
def session() -> Iterator[Path]:
    """A folder for what the launcher and the processes below it tell each other, gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="traincheck-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run(command: Sequence[str], launch: Launch, folder: Path, *, stdout_to_stderr: bool = False) -> int:
    """Run ``command``, its processes told of ``launch`` through ``folder``. Returns its status, as a shell has it."""
    path = folder / "launch.json"
    path.write_text(launch.model_dump_json(), encoding="utf-8")
    stdout = sys.stderr.fileno() if stdout_to_stderr else None
    try:
        child = subprocess.Popen(command, env=environment(os.environ, path), stdout=stdout)
    except OSError as error:
        return _not_started(command[0], error)
    with _signals_passed_to(child):
        status = child.wait()
    return status if status >= 0 else SIGNAL_BASE - status


def environment(current: Mapping[str, str], launch: Path) -> dict[str, str]:
    """``current`` with the switch set; an outer launcher's switch gives way to this one."""
    path = current.get("PYTHONPATH")
    # An empty entry of a path that is not empty stands for the current folder, and stays.
    entries = [entry for entry in path.split(os.pathsep) if Path(entry) != BOOTSTRAP] if path else []
    return {**current, VARIABLE: str(launch), "PYTHONPATH": os.pathsep.join((str(BOOTSTRAP), *entries))}


def _not_started(program: str, error: OSError) -> int:
    missing = isinstance(error, FileNotFoundError) and shutil.which(program) is None
    if missing:
        print(f"traincheck: {program}: command not found", file=sys.stderr)
        return NOT_FOUND
    print(f"traincheck: {program}: cannot be executed: {error.strerror}", file=sys.stderr)
    return NOT_EXECUTABLE


@contextmanager
def _signals_passed_to(child: subprocess.Popen[bytes]) -> Iterator[None]:
    def pass_on(number: int, frame: FrameType | None) -> None:
        # Ctrl-C reaches the command from the terminal itself; a second one would cut its own clean-up short.
        if not (number == signal.SIGINT and _in_foreground()):
            child.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _in_foreground() -> bool:
    """Whether we, and with us the command, are in the foreground of a terminal."""
    try:
        with open("/dev/tty", "rb") as terminal:
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except OSError:
        return False
