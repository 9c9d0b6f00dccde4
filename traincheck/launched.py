"""What a Python process below the launcher does once it has imported torch: it records, or checks itself."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from traincheck.events import Process
from traincheck.findings import CheckResult
from traincheck.launch import Launch, read_launch
from traincheck.plan import Plan, Sink


def start(launch_path: str) -> None:
    """Record this process until it exits, as the launch says. Called with torch just imported."""
    launch = read_launch(Path(launch_path))
    if launch.mode == "collect":
        _collect(launch)
    else:
        _check(launch)


def _collect(launch: Launch) -> None:
    from traincheck.integrations.auto import attach_when_imported
    from traincheck.record import LAUNCHED, Session
    from traincheck.trace import Writer

    def open_sink(process: Process) -> Sink:
        return Writer(Path(launch.directory), process)

    session = Session(Plan(modules=launch.modules), open_sink, project=project(), name=LAUNCHED["collect"])
    session.start()
    attach_when_imported(session)


def _check(launch: Launch) -> None:
    from traincheck.integrations.auto import attach_when_imported
    from traincheck.invariant_file import load_invariants
    from traincheck.record import LAUNCHED
    from traincheck.verdicts import write_verdict
    from traincheck.watching import Watch

    # The file lists what a pack ranks in the order of its ranks, which the format itself does not hold.
    invariants = [
        replace(invariant, priority=place) if invariant.curation else invariant
        for place, invariant in enumerate(load_invariants(Path(launch.invariants)))
    ]

    def save(process: Process, result: CheckResult, finished: bool) -> None:
        write_verdict(Path(launch.directory), process, result, finished=finished)

    watch = Watch(
        invariants,
        name=LAUNCHED["check"],
        overhead=None,
        save=save,
        last_words=Path(launch.directory),
        project=project(),
    )
    watch.start()
    attach_when_imported(watch.session)


def project() -> Path:
    """Where the user's own code lies: the current folder, or the folder of a script from elsewhere."""
    here = Path.cwd()
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    if main is None:
        return here
    script = Path(main).resolve()
    installed = script.is_relative_to(Path(sys.prefix).resolve())
    return here if installed or script.is_relative_to(here) else script.parent
