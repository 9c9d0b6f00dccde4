"""What the Transformers callback adds to a training: plain, the default budget, and every step, runs interleaved.

CPU time of the whole training, from the first step's beginning to the last one's end, so that what the first steps cost
is in it, and other work on the machine is not.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

from results import publish, table

MODES = {"plain": None, "callback, default budget": 0.02, "callback, every step": "none"}


def train(overhead: str, steps: int) -> float:
    """CPU milliseconds a step of a small GPT-2 under the Trainer."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments, set_seed

    class Clock(TrainerCallback):
        began = ended = 0.0

        def on_step_begin(self, args: object, state: object, control: object, **kwargs: object) -> None:
            self.began = self.began or time.process_time()

        def on_step_end(self, args: object, state: object, control: object, **kwargs: object) -> None:
            self.ended = time.process_time()

    torch.set_num_threads(1)
    set_seed(0)
    config = GPT2Config(
        vocab_size=512, n_positions=128, n_embd=192, n_layer=4, n_head=6, bos_token_id=0, eos_token_id=0
    )
    rows = [{"input_ids": row, "labels": row} for row in torch.randint(0, 512, (16 * steps, 96))]
    clock = Clock()
    callbacks: list[TrainerCallback] = [clock]
    if overhead != "plain":
        from traincheck.integrations.transformers import TrainCheckCallback

        callbacks.append(TrainCheckCallback(overhead=None if overhead == "none" else float(overhead)))
    with tempfile.TemporaryDirectory() as output:
        arguments = TrainingArguments(
            output_dir=output,
            max_steps=steps,
            per_device_train_batch_size=16,
            save_strategy="no",
            use_cpu=True,
            disable_tqdm=True,
            report_to="none",
        )
        Trainer(GPT2LMHeadModel(config), arguments, train_dataset=rows, callbacks=callbacks).train()
    return (clock.ended - clock.began) * 1e3 / steps


def main() -> None:
    parser = argparse.ArgumentParser(description="What the Transformers callback adds to a training.")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="put the table into RESULTS.md")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child is not None:
        print(f"CPU {train(args.child, args.steps)}")
        return
    found: dict[str, list[float]] = {mode: [] for mode in MODES}
    for _ in range(args.rounds):
        for mode, overhead in MODES.items():
            child = [sys.executable, __file__, "--steps", str(args.steps), "--child", str(overhead or "plain")]
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            done = subprocess.run(child, capture_output=True, text=True, check=True, env=environment)
            found[mode].append(float(done.stdout.rpartition("CPU ")[2]))
    rows: list[list[object]] = []
    for mode, times in found.items():
        ratios = sorted(time / plain for time, plain in zip(times, found["plain"], strict=True))
        rows.append([mode, statistics.median(times), statistics.median(ratios), ratios[0], ratios[-1]])
    body = (
        f"{args.steps} steps of a GPT-2 with 2 M parameters under the Trainer, one thread, CPU time of all steps, "
        f"{args.rounds} interleaved runs.\n\n" + table(["", "CPU ms a step", "ratio", "least", "most"], rows)
    )
    publish("trainer", "The Transformers callback", body, write=args.write)


if __name__ == "__main__":
    main()
