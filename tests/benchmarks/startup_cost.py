"""How fast the commands that read traces start, and that they leave torch alone."""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

from results import publish, table
from runs import OUR_BIN, infer, run, train_recorded


def imports_torch(command: list[str | Path], where: Path) -> bool:
    """Whether the command imports torch: Python itself lists all imports."""
    listed = run(command, where=where, env={"PYTHONPROFILEIMPORTTIME": "1"}, ok=(0, 1)).output
    return any(line.rpartition("|")[2].strip() == "torch" for line in listed.splitlines())


def wall_s(command: list[str | Path], where: Path, rounds: int) -> float:
    """Median time of the whole command; findings are not a failure here."""
    return statistics.median(run(command, where=where, ok=(0, 1)).wall_s for _ in range(rounds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--write", action="store_true", help="put the table into RESULTS.md")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        trace, invariants = scratch / "trace", scratch / "invariants.json"
        train_recorded(scratch, args.steps, trace)
        infer(scratch, [trace], invariants)
        commands: dict[str, list[str | Path]] = {
            "python -c pass": [OUR_BIN / "python", "-c", "pass"],
            "traincheck-check --help": [OUR_BIN / "traincheck-check", "--help"],
            "traincheck-check TRACE -i FILE": [OUR_BIN / "traincheck-check", trace, "-i", invariants],
        }
        rows = [
            [label, wall_s(command, scratch, args.rounds), "yes" if imports_torch(command, scratch) else "no"]
            for label, command in commands.items()
        ]
    body = f"Whole commands, median of {args.rounds}; the trace has {args.steps} steps of `programs/mnist_cnn.py`.\n\n"
    publish("startup", "Start", body + table(["", "seconds", "imports torch"], rows), write=args.write)


if __name__ == "__main__":
    main()
