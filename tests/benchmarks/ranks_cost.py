"""What comparing two ranks adds to a step, alone and where all else is checked: side by side in the same run."""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from results import publish, table
from runs import OUR_BIN, run

PROGRAM = Path(__file__).resolve().parent / "programs" / "ddp_steps.py"
BLOCK = 8
"""As in the program: so many steps are compared, then so many are not."""
WARM_UP = 2 * BLOCK
CHECKED = {
    "ranks": "the invariants across ranks",
    "all": "all of the pack",
    "all but ranks": "all but those across ranks",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=500, help="of a process; steps of about 100 ms")
    parser.add_argument("--write", action="store_true", help="put the table into RESULTS.md")
    args = parser.parse_args()

    runs: dict[str, list[tuple[float, float]]] = {which: [] for which in CHECKED}
    with tempfile.TemporaryDirectory() as name:
        for _ in range(args.rounds):
            for which, done in runs.items():
                done.append(_plain_and_checked(Path(name), which, args))
                print("measured:", which, *done[-1], file=sys.stderr, flush=True)
    plain_ms = statistics.median(plain for done in runs.values() for plain, _ in done)
    added = {which: [checked - plain for plain, checked in done] for which, done in runs.items()}
    rows = [_row(words, added[which], plain_ms) for which, words in CHECKED.items()]
    upon = [ours - others for ours, others in zip(added["all"], added["all but ranks"], strict=True)]
    rows.append(_row("the first upon the last", upon, plain_ms))
    body = (
        f"{args.steps} steps of `programs/ddp_steps.py` (3 M parameters, batch {args.batch} a process, two gloo "
        f"processes of one thread, {plain_ms:.1f} ms a step), {BLOCK} steps with the invariants, {BLOCK} without, and "
        f"so on in one run; medians of {args.rounds} runs (least-most). Fingerprints of gradients and parameters are "
        "most of the first line; where the other invariants are checked too, they need the same ones.\n\n"
    ) + table(["checked", "ms added", "% of the step"], rows)
    publish("ranks", "Comparing ranks", body, write=args.write)


def _plain_and_checked(scratch: Path, which: str, args: argparse.Namespace) -> tuple[float, float]:
    """The median step without and with the invariants, in ms."""
    env = {"BENCH_STEPS": str(args.steps), "BENCH_BATCH": str(args.batch), "BENCH_CHECKED": which}
    command = [OUR_BIN / "torchrun", "--standalone", "--nproc-per-node", "2", PROGRAM]
    durations = run(command, where=scratch, env={**env, "OMP_NUM_THREADS": "1"}).step_durations_ms()
    return statistics.median(_of_kind(durations, False)), statistics.median(_of_kind(durations, True))


def _row(words: str, added: list[float], plain_ms: float) -> list[object]:
    return [
        words,
        f"{statistics.median(added):.2f} ({min(added):.2f}-{max(added):.2f})",
        f"{100 * statistics.median(added) / plain_ms:.1f}",
    ]


def _of_kind(durations: list[float], checked: bool) -> list[float]:
    """Without the first step of a block, in which the last step of the block before is judged."""
    timed = list(enumerate(durations))[WARM_UP:]
    return [ms for step, ms in timed if (step // BLOCK % 2 == 0) is checked and step % BLOCK]


if __name__ == "__main__":
    main()
