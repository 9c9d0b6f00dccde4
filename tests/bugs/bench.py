"""The bug benchmark: every error and its fixed twin, and every clean program, checked live as a user would.

    python tests/bugs/bench.py [--zoo pytorch | -i invariants.json] [--only P13] [--jobs 2] [--write]

Prints a row a program: found or not, steps from the trigger to the finding, number of findings, whether the first finding
names the true cause, and whether the fixed twin is silent.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
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


def table(bugs: list[dict[str, Any]], clean: list[dict[str, Any]]) -> str:
    """Both lists and their totals as markdown."""
    lines = ["| error | class | found | delay | findings | names cause | twin silent | codes |", "|---|---|---|---|---|---|---|---|"]
    for row in bugs:
        marks = {True: "yes", False: "**no**"}
        lines.append(
            f"| {row['id']} {row['title']} | {row['class']} | {marks[row['found']]} | {row['delay']} | {row['findings']} "
            f"| {marks[row['names cause']]} | {marks[row['twin silent']]} {' '.join(row['twin codes'])} "
            f"| {' '.join(row['codes'])} |"
        )
    lines += ["", "| clean program | silent | exercised | codes |", "|---|---|---|---|"]
    for row in clean:
        lines.append(
            f"| {row['id']} | {'yes' if row['silent'] else '**no**'} | {row['exercised']} | {' '.join(row['codes'])} {row['note'][:80]} |"
        )
    found = [row for row in bugs if row["found"]]
    lines += [
        "",
        f"Found {len(found)} of {len(bugs)}; first finding names the cause in {sum(row['names cause'] for row in found)}; "
        f"within one step in {sum(-1 <= row['delay'] <= 1 for row in found)}; "
        f"false alarms on {sum(not row['twin silent'] for row in bugs)} twins "
        f"and {sum(not row['silent'] for row in clean)} of {len(clean)} clean programs.",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--zoo")
    parser.add_argument("-i", "--invariants")
    parser.add_argument("--only", default="")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    source = ["-i", str(Path(arguments.invariants).resolve())] if arguments.invariants else ["--zoo", arguments.zoo or "pytorch"]
    folders = sorted(path.parent for path in HERE.glob(f"{arguments.only}*/meta.json"))
    programs = sorted(path for path in HERE.glob(f"clean/{arguments.only}*.py") if not path.stem.startswith("_"))
    with ThreadPoolExecutor(arguments.jobs) as pool:
        bugs = list(pool.map(lambda folder: bug_row(folder, source), folders))
        clean = list(pool.map(lambda program: clean_row(program, source), programs))
    text = table(bugs, clean)
    print(text)
    for row in clean:
        for message in row["told"]:
            print(f"  {row['id']}: {message}")
    for row in bugs:
        if row["note"]:
            print(f"  {row['id']}: {row['note']}")
    if arguments.write:
        mode = "inferred from recipes" if arguments.invariants else f"zoo {source[1]}"
        (HERE / "RESULTS.md").write_text(f"# Bug benchmark: {mode}\n\n`python tests/bugs/bench.py {' '.join(sys.argv[1:])}`\n\n{text}\n")


if __name__ == "__main__":
    main()
