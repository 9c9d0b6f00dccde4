"""What a Python process below the launcher does once it has imported torch: it records, or checks itself."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from traincheck.events import Process
from traincheck.findings import CheckResult
from traincheck.invariant import Invariant
from traincheck.launch import Launch, read_launch
from traincheck.plan import OpenSink, Plan, Sink

LAUNCHED: Final = ("traincheck-collect", "traincheck-check")
"""The names of sessions that a command of ours began."""


def start(launch_path: str) -> None:
    """Record this process until it exits, as the launch says. Called with torch just imported."""
    from traincheck.record import Session

    launch = read_launch(Path(launch_path))
    faults: list[str] = []
    plan, open_sink = _collecting(launch) if launch.mode == "collect" else _checking(launch, lambda: faults)
    session = Session(plan, open_sink, project=project(), name=f"traincheck-{launch.mode}")
    faults = session.faults
    session.start()


def project() -> Path:
    """Where the user's own code lies: the current folder, or the folder of a script from elsewhere."""
    here = Path.cwd()
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    if main is None:
        return here
    script = Path(main).resolve()
    installed = script.is_relative_to(Path(sys.prefix).resolve())
    return here if installed or script.is_relative_to(here) else script.parent


def _collecting(launch: Launch) -> tuple[Plan, OpenSink]:
    from traincheck.trace import Writer

    def open_sink(process: Process) -> Sink:
        return Writer(Path(launch.directory), process)

    return Plan(modules=launch.modules), open_sink


def _checking(launch: Launch, faults: Callable[[], Sequence[str]]) -> tuple[Plan, OpenSink]:
    from traincheck.check import Checker
    from traincheck.invariant_file import load_invariants
    from traincheck.live import LiveSink
    from traincheck.reaction import Reaction
    from traincheck.verdicts import write_verdict

    # The file lists what a pack ranks in the order of its ranks, which the format itself does not hold.
    invariants: list[Invariant] = [
        replace(invariant, priority=place) if invariant.curation else invariant
        for place, invariant in enumerate(load_invariants(Path(launch.invariants)))
    ]

    def open_sink(process: Process) -> Sink:
        def save(result: CheckResult, finished: bool) -> None:
            noted = replace(result, notes=(*result.notes, *faults()))
            write_verdict(Path(launch.directory), process, noted, finished=finished)

        return LiveSink(process, invariants, Reaction("warn"), save)

    return Plan(needs=Checker(invariants).plan_needs), open_sink
