"""What full collection adds to a step, and how large the trace is: plain, ours and the peer's runs, interleaved."""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

from results import publish, table
from runs import Run, peer_torch, size_bytes, train_plain, train_recorded, train_recorded_by_peer

PEER_TRACE = ("trace_*", "proxy_log.json")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--warm-up", type=int, default=3, help="first steps of each run that are left out")
    parser.add_argument("--write", action="store_true", help="put the table into RESULTS.md")
    args = parser.parse_args()

    plain, ours, peers = [], [], []
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        for number in range(args.rounds):
            our_trace, peer_trace = scratch / f"ours{number}", scratch / f"peer{number}"
            plain.append(train_plain(scratch, args.steps))
            ours.append(train_recorded(scratch, args.steps, our_trace))
            peers.append(train_recorded_by_peer(scratch, args.steps, peer_trace))
        our_bytes = size_bytes(our_trace)
        peer_bytes = size_bytes(peer_trace, *PEER_TRACE)
        peer_rest = size_bytes(peer_trace) - peer_bytes

    def step_ms(runs: list[Run]) -> list[float]:
        return [statistics.median(run.step_durations_ms()[args.warm_up :]) for run in runs]

    def row(name: str, runs: list[Run], trace_bytes: int | None) -> list[object]:
        times, base = step_ms(runs), step_ms(plain)
        added = statistics.median(time - before for time, before in zip(times, base, strict=True))
        kilobytes = None if trace_bytes is None else trace_bytes / args.steps / 1000
        return [name, statistics.median(times), None if runs is plain else added, kilobytes]

    rows = [row("plain", plain, None), row("ours", ours, our_bytes), row("the peer", peers, peer_bytes)]
    ratio = rows[2][2] / rows[1][2]  # type: ignore[operator]  # both are numbers
    body = (
        f"{args.steps} steps of `programs/mnist_cnn.py` (1.2 M parameters, batch 64, one thread), full collection, "
        f"medians of {args.rounds} interleaved runs. The peer adds {ratio:.0f} times what ours adds, and writes "
        f"{peer_rest / 1e6:.1f} MB of other files a run; it runs with torch {peer_torch()}.\n\n"
        + table(["", "ms a step", "ms added", "kB of trace a step"], rows)
    )
    publish("collect", "Collection", body, write=args.write)


if __name__ == "__main__":
    main()
