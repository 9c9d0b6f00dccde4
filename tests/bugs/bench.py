"""The bug benchmark: every error and its fixed twin, and every clean program, run once and judged in both modes.

    python tests/bugs/bench.py [--only P13] [--vary] [--jobs 2] [--write]

*Zoo only* needs no reference run. *Inferred* judges by what ``traincheck-infer`` makes of the recipes; their traces are
kept in a temporary folder for as long as the sources stay the same. Each program is recorded in full by
``traincheck-collect``, and its trace is checked by ``traincheck-check`` in each mode: online and offline verdicts are
the same. A row tells whether an error was found, how many steps after its trigger, in how many findings, whether the
first one names the true cause, and whether the fixed twin is silent.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
TIMEOUT_S = 300
BIN = Path(sys.executable).parent
PYTORCH = "pytorch"
ZOO, INFERRED = "Zoo only", "Inferred from the recipes"
VARIATIONS = {
    "seed": ("--seed", "7"),
    "batch size": ("--batch-size", "24"),
    "optimizer": ("--optimizer", "RMSprop", "--lr", "0.001"),
    "learning rate": ("--lr", "0.003"),
    "dtype": ("--dtype", "float64"),
}
"""What is changed of a clean program, one at a time, where it takes the option."""

Row = dict[str, Any]
Modes = dict[str, list[str]]
"""How ``traincheck-check`` is told where invariants are, by the name of the mode."""


@dataclass(frozen=True)
class Outcome:
    """What the check said of one trace."""

    findings: list[dict[str, Any]]
    exercised: int
    violated: int
    note: str = ""


def run(program: Path, options: tuple[str, ...], modes: Modes) -> dict[str, Outcome]:
    """One program, recorded in a folder of its own, and what each mode says of it."""
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace"
        command = [str(BIN / "traincheck-collect"), "-o", str(trace), "--", sys.executable, str(program), *options]
        told = _run(command, Path(folder))
        if not (trace / "manifest.json").exists():
            return {mode: Outcome([], 0, 0, told or "no trace") for mode in modes}
        return {mode: _check(trace, source) for mode, source in modes.items()}


def _run(command: list[str], folder: Path) -> str:
    """Run it; the last line that it wrote on stderr, when it failed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S, env=environment, check=False
        )
    except subprocess.TimeoutExpired:
        return "timed out"
    return (done.stderr.strip().splitlines() or ["failed"])[-1] if done.returncode else ""


def _check(trace: Path, source: list[str]) -> Outcome:
    command = [str(BIN / "traincheck-check"), str(trace), *source, "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    try:
        document = json.loads(done.stdout)
    except ValueError:
        return Outcome([], 0, 0, (done.stderr.strip().splitlines() or ["no output"])[-1])
    return Outcome(document["findings"], document["exercised"], len(document["violated"]), "; ".join(document["notes"]))


def names_the_cause(finding: dict[str, Any], meta: dict[str, Any]) -> bool:
    """Whether the words that a reader needs are in the finding."""
    text = json.dumps(finding).lower()
    return any(word.lower() in text for word in meta["expected_words"])


def bug_rows(folder: Path, modes: Modes) -> dict[str, Row]:
    """The row of one error, by mode."""
    meta = read_meta(folder)
    buggy, clean = run(folder / "buggy.py", (), modes), run(folder / "clean.py", (), modes)
    print(f"  {meta['id']}", file=sys.stderr, flush=True)
    return {mode: _bug_row(meta, buggy[mode], clean[mode]) for mode in modes}


def _bug_row(meta: dict[str, Any], buggy: Outcome, clean: Outcome) -> Row:
    first = buggy.findings[0] if buggy.findings else None
    return {
        "id": meta["id"],
        "title": meta["title"],
        "class": meta["class"],
        "found": first is not None,
        "delay": first["step"] - meta["trigger_step"] if first else None,
        "findings": len(buggy.findings),
        "codes": [finding["code"] for finding in buggy.findings],
        "names cause": bool(first) and names_the_cause(first, meta),
        "twin silent": not clean.findings,
        "twin codes": [finding["code"] for finding in clean.findings],
        "told": [finding["message"] for finding in clean.findings],
        "note": buggy.note or clean.note,
    }


def clean_rows(program: Path, modes: Modes, options: tuple[str, ...] = ()) -> dict[str, Row]:
    """The row of one clean program, by mode."""
    outcomes = run(program, options, modes)
    print(f"  {program.stem} {' '.join(options)}", file=sys.stderr, flush=True)
    return {mode: _clean_row(program, options, outcome) for mode, outcome in outcomes.items()}


def _clean_row(program: Path, options: tuple[str, ...], outcome: Outcome) -> Row:
    return {
        "id": " ".join([str(program.relative_to(HERE / "clean").with_suffix("")), *options]),
        "silent": not outcome.findings,
        "codes": [finding["code"] for finding in outcome.findings],
        "exercised": outcome.exercised,
        "violated": outcome.violated,
        "told": [finding["message"] for finding in outcome.findings],
        "note": outcome.note,
    }


def framework_of(program: Path) -> str:
    """Whose pack judges a clean program: the folder says it."""
    return PYTORCH if program.parent.name == "clean" else program.parent.name


def variations(program: Path) -> Iterable[tuple[str, ...]]:
    """The changed options that the program takes."""
    taken = set(re.findall(r'add_argument\("(--[a-z-]+)"', program.read_text()))
    return (options for options in VARIATIONS.values() if set(options[::2]) <= taken)


def read_meta(folder: Path) -> dict[str, Any]:
    """What is known of an error."""
    meta: dict[str, Any] = json.loads((folder / "meta.json").read_text())
    return meta


def inferred_from_recipes(framework: str) -> Path:
    """The invariants that the recipes of a framework teach; recorded again whenever a source has changed."""
    digest = hashlib.sha256()
    for source in sorted(
        [*ROOT.glob("traincheck/**/*.py"), *ROOT.glob("integrations/*.py"), *ROOT.glob("recipes/*/*")]
    ):
        if source.is_file():
            digest.update(source.read_bytes())
    folder = Path(tempfile.gettempdir()) / f"traincheck-recipes-{digest.hexdigest()[:12]}"
    invariants = folder / f"{framework}.json"
    if not invariants.exists():
        print(f"recording the recipes of {framework}", file=sys.stderr, flush=True)
        build = [sys.executable, "-m", "traincheck.zoo_build", framework, "--traces", str(folder), "--check"]
        subprocess.run(build, cwd=ROOT, capture_output=True, check=False)
        parts = sorted({PYTORCH, framework})
        traces = [str(path.parent) for part in parts for path in sorted(folder.glob(f"{part}/*/manifest.json"))]
        infer = [str(BIN / "traincheck-infer"), *traces, "-o", str(invariants)]
        subprocess.run(infer, capture_output=True, check=True)
    return invariants


def modes_of(framework: str, arguments: argparse.Namespace) -> Modes:
    """The modes that were asked for, for programs of a framework."""
    modes: Modes = {}
    if arguments.mode != "inferred":
        modes[ZOO] = ["--zoo", framework]
    if arguments.mode != "zoo":
        given = arguments.invariants or inferred_from_recipes(framework)
        modes[INFERRED] = ["-i", str(Path(given).resolve())]
    return modes


MARK = {True: "yes", False: "**no**"}


def table(bugs: list[Row], clean: list[Row]) -> str:
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
    return "\n".join([*lines, "", *_totals(bugs, clean)])


def _line(cells: Sequence[object]) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _totals(bugs: list[Row], clean: list[Row]) -> Iterable[str]:
    found = [row for row in bugs if row["found"]]
    named = sum(row["names cause"] for row in found)
    soon = sum(-1 <= row["delay"] <= 1 for row in found)
    twins = sum(not row["twin silent"] for row in bugs)
    loud = sum(not row["silent"] for row in clean)
    yield (
        f"Found {len(found)} of {len(bugs)}; within one step of the trigger {soon}; "
        f"the first finding names the cause in {named}; "
        f"false alarms on {twins} fixed twins and {loud} of {len(clean)} clean programs."
    )
    of_class = [
        [row for row in bugs if row["class"] == name] for name in sorted({row["class"] for row in bugs}, key=_by_number)
    ]
    told = (f"{rows[0]['class']} {sum(row['found'] for row in rows)} of {len(rows)}" for rows in of_class)
    yield f"\nBy class: {', '.join(told)}."
    exercised, violated = sum(row["exercised"] for row in clean), sum(row["violated"] for row in clean)
    if exercised:
        share = 100 * violated / exercised
        yield f"\nOf {exercised} invariants exercised on clean programs {violated} fired ({share:.2f} %)."


def _by_number(name: str) -> int:
    return int(name[1:])


def varied_table(rows: list[Row]) -> str:
    """The totals over changed options, and every program that was not silent."""
    exercised, violated = sum(row["exercised"] for row in rows), sum(row["violated"] for row in rows)
    loud = [row for row in rows if not row["silent"]]
    share = 100 * violated / max(1, exercised)
    lines = [
        f"{len(rows)} runs of clean programs with one option changed ({', '.join(VARIATIONS)}): "
        f"{len(loud)} not silent; of {exercised} exercised invariants {violated} fired ({share:.2f} %)."
    ]
    return "\n".join([*lines, *(f"- `{row['id']}`: {' '.join(row['codes'])}" for row in loud)])


def report(title: str, bugs: list[Row], clean: list[Row], varied: list[Row]) -> str:
    """One mode, as it is written down."""
    parts = [f"## {title}", table(bugs, clean)]
    return "\n\n".join([*parts, varied_table(varied)] if varied else parts)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="", help="programs whose name begins so")
    parser.add_argument("--mode", choices=("zoo", "inferred", "both"), default="both")
    parser.add_argument("-i", "--invariants", help="the inferred mode uses this file instead of the recipes")
    parser.add_argument("--vary", action="store_true", help="run the clean programs with changed options too")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="write RESULTS.md")
    arguments = parser.parse_args()
    began = time.monotonic()
    folders = sorted(path.parent for path in HERE.glob(f"{arguments.only}*/meta.json"))
    programs = [
        path for pattern in ("clean/", "clean/*/") for path in sorted(HERE.glob(f"{pattern}{arguments.only}*.py"))
    ]
    changed = [(program, options) for program in programs for options in variations(program)] if arguments.vary else []
    frameworks = {folder: read_meta(folder).get("framework", PYTORCH) for folder in folders}
    needed = {PYTORCH, *frameworks.values(), *map(framework_of, programs)}
    modes = {framework: modes_of(framework, arguments) for framework in sorted(needed)}
    with ThreadPoolExecutor(arguments.jobs) as pool:
        bugs = list(pool.map(lambda folder: bug_rows(folder, modes[frameworks[folder]]), folders))
        clean = list(pool.map(lambda program: clean_rows(program, modes[framework_of(program)]), programs))
        varied = list(pool.map(lambda job: clean_rows(job[0], modes[framework_of(job[0])], job[1]), changed))
    texts = []
    for mode in modes[PYTORCH]:
        mine = [[rows[mode] for rows in group] for group in (bugs, clean, varied)]
        texts.append(report(mode, *mine))
        told = [
            f"  {row['id']}: {line}" for group in mine for row in group for line in [*row["told"], row["note"]] if line
        ]
        print("\n".join([texts[-1], *told, ""]))
    minutes = (time.monotonic() - began) / 60
    print(f"{minutes:.1f} minutes")
    if arguments.write:
        command = " ".join(["python tests/bugs/bench.py", *sys.argv[1:]])
        made = f"`{command}`: {minutes:.0f} minutes, torch {version('torch')}, Python {sys.version.split()[0]}"
        (HERE / "RESULTS.md").write_text("\n\n".join(["# The bug benchmark", made, *texts]) + "\n")


if __name__ == "__main__":
    main()
