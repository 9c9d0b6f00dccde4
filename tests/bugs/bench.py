"""The bug benchmark: every error and its fixed twin, and every clean program, checked live as a user would.

    python tests/bugs/bench.py [--zoo pytorch | -i invariants.json] [--only P13] [--jobs 2] [--write]

Prints a row a program: found or not, steps from the trigger to the finding, number of findings, whether the first
finding names the true cause, and whether the fixed twin is silent.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
TIMEOUT_S = 180
CHECK = Path(sys.executable).with_name("traincheck-check")


@dataclass(frozen=True)
class Outcome:
    """What the check said of one program."""

    status: int
    findings: list[dict[str, Any]]
    exercised: int
    note: str = ""


def check(program: Path, source: list[str], options: tuple[str, ...] = ()) -> Outcome:
    """One program under ``traincheck-check``, in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [str(CHECK), *source, "--format", "json", "--", sys.executable, str(program), *options]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        try:
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S, env=environment, check=False
            )
        except subprocess.TimeoutExpired:
            return Outcome(2, [], 0, "timed out")
    try:
        document = json.loads(done.stdout)
    except ValueError:
        return Outcome(done.returncode, [], 0, (done.stderr.strip().splitlines() or ["no output"])[-1])
    return Outcome(done.returncode, document["findings"], document["exercised"], "; ".join(document["notes"]))


def names_the_cause(finding: dict[str, Any], meta: dict[str, Any]) -> bool:
    """Whether the words that a reader needs are in the finding."""
    text = json.dumps(finding).lower()
    return any(word.lower() in text for word in meta["expected_words"])


def bug_row(folder: Path, source: list[str]) -> dict[str, Any]:
    """The row of one error."""
    meta = json.loads((folder / "meta.json").read_text())
    buggy, clean = check(folder / "buggy.py", source), check(folder / "clean.py", source)
    first = buggy.findings[0] if buggy.findings else None
    return {
        "id": meta["id"],
        "title": meta["title"],
        "class": meta["class"],
        "difficulty": meta["difficulty"],
        "found": first is not None,
        "delay": first["step"] - meta["trigger_step"] if first else None,
        "findings": len(buggy.findings),
        "codes": [finding["code"] for finding in buggy.findings],
        "names cause": bool(first) and names_the_cause(first, meta),
        "twin silent": not clean.findings,
        "twin codes": [finding["code"] for finding in clean.findings],
        "note": buggy.note or clean.note,
    }


def clean_row(program: Path, source: list[str]) -> dict[str, Any]:
    """The row of one clean program."""
    outcome = check(program, source)
    return {
        "id": program.stem,
        "silent": not outcome.findings,
        "codes": [finding["code"] for finding in outcome.findings],
        "exercised": outcome.exercised,
        "note": outcome.note,
        "told": [finding["message"] for finding in outcome.findings],
    }


MARK = {True: "yes", False: "**no**"}


def table(bugs: list[dict[str, Any]], clean: list[dict[str, Any]]) -> str:
    """Both lists and their totals as markdown."""
    head = ("error", "class", "found", "delay", "findings", "names cause", "twin silent", "codes")
    lines = [_line(head), _line(["---"] * len(head))]
    for row in bugs:
        cells = (f"{row['id']} {row['title']}", row["class"], MARK[row["found"]], row["delay"], row["findings"])
        twin = " ".join([MARK[row["twin silent"]], *row["twin codes"]])
        lines.append(_line([*cells, MARK[row["names cause"]], twin, " ".join(row["codes"])]))
    head = ("clean program", "silent", "exercised", "codes")
    lines += ["", _line(head), _line(["---"] * len(head))]
    for row in clean:
        lines.append(_line([row["id"], MARK[row["silent"]], row["exercised"], " ".join(row["codes"])]))
    return "\n".join([*lines, "", _totals(bugs, clean)])


def _line(cells: Sequence[object]) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _totals(bugs: list[dict[str, Any]], clean: list[dict[str, Any]]) -> str:
    found = [row for row in bugs if row["found"]]
    named = sum(row["names cause"] for row in found)
    soon = sum(-1 <= row["delay"] <= 1 for row in found)
    twins = sum(not row["twin silent"] for row in bugs)
    loud = sum(not row["silent"] for row in clean)
    return (
        f"Found {len(found)} of {len(bugs)}; within one step of the trigger {soon}; "
        f"the first finding names the cause in {named}; "
        f"false alarms on {twins} fixed twins and {loud} of {len(clean)} clean programs."
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--zoo")
    parser.add_argument("-i", "--invariants")
    parser.add_argument("--only", default="")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    given = arguments.invariants
    source = ["-i", str(Path(given).resolve())] if given else ["--zoo", arguments.zoo or "pytorch"]
    folders = sorted(path.parent for path in HERE.glob(f"{arguments.only}*/meta.json"))
    programs = sorted(path for path in HERE.glob(f"clean/{arguments.only}*.py") if not path.stem.startswith("_"))
    with ThreadPoolExecutor(arguments.jobs) as pool:
        bugs = list(pool.map(lambda folder: bug_row(folder, source), folders))
        clean = list(pool.map(lambda program: clean_row(program, source), programs))
    text = table(bugs, clean)
    print(text)
    for row in clean + bugs:
        for line in [*row.get("told", ()), row["note"]]:
            if line:
                print(f"  {row['id']}: {line}")
    if arguments.write:
        mode = "invariants inferred from the recipes" if given else f"zoo {source[1]}"
        command = f"python tests/bugs/bench.py {' '.join(sys.argv[1:])}"
        (HERE / "RESULTS.md").write_text(f"# The bug benchmark: {mode}\n\n`{command}`\n\n{text}\n")


if __name__ == "__main__":
    main()
