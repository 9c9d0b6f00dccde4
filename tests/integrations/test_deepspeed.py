"""DeepSpeed engines: right steps, right answers, the same training; with the real engine in two processes."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("deepspeed")

from traincheck.invariant import Evidence, Invariant
from traincheck.invariant_file import Provenance, save_invariants
from traincheck.launch import check_command
from traincheck.precondition import ALWAYS
from traincheck.zoo import load_pack

HERE = Path(__file__).parent
TORCHRUN = [str(Path(sys.executable).with_name("torchrun")), "--standalone", "--nproc-per-node", "2"]
TINY = [*TORCHRUN, str(HERE / "tiny_deepspeed.py")]

EVIDENCE = Evidence(examples=10, steps=10, runs=1, programs=1, confidence=0.99)


def invariant(relation: str, **subject: Any) -> Invariant:
    return Invariant(relation, subject, ALWAYS, f"{relation} {subject}.", EVIDENCE)


EQUAL_ON_RANKS = invariant("Consistent", kind="param", across="ranks")
EVERY_ONE_MOVES = invariant("EventContain", parent="optimizer.step", child="change:param", how="every")
HELD_ARE_ALIVE = invariant("Membership", part="held", whole="alive")
TRAINABLE_ARE_HELD = invariant("Membership", part="trainable", whole="held")


def told(stage: int, trouble: str, options: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """What each rank says in the end, in order of rank."""
    command = [*TINY, str(stage), trouble, *([] if options is None else [json.dumps(options)])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    # Two processes may write into one line.
    lines = [json.loads(text) for text in re.findall(r"TOLD (\{[^}]*\})", done.stdout)]
    return sorted(lines, key=lambda line: int(line["rank"]))


def test_a_watched_engine_trains_bit_for_bit_as_one_that_is_not() -> None:
    plain = told(1, "none")
    watched = told(1, "none", {"overhead": None, "zoo": "pytorch"})

    assert [6, 6] == [rank["steps"] for rank in watched]
    assert plain == watched


def test_a_rank_that_diverges_is_found_at_the_step_of_the_engine_and_all_ranks_stop(tmp_path: Path) -> None:
    path = tmp_path / "invariants.json"
    save_invariants(path, [EQUAL_ON_RANKS], Provenance(created="2026-01-01T00:00:00", traincheck=""))
    options = {"overhead": None, "zoo": None, "invariants": str(path), "on_violation": "stop"}

    first, second = told(0, "diverges", options)

    assert [3] == [step for _, step in first["found"]]
    assert first["steps"] == second["steps"] < 6


@pytest.mark.slow
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_zero_s_shards_stay_the_parameters_that_they_are_of(stage: int) -> None:
    laws = [EVERY_ONE_MOVES, HELD_ARE_ALIVE, TRAINABLE_ARE_HELD]

    status, result = check_command([*TINY, str(stage), "none"], laws)

    assert (0, (), 3) == (status, result.findings, len(result.held))
    assert 6 == result.steps


def test_an_optimizer_over_foreign_parameters_is_named_before_deepspeed_fails_over_it() -> None:
    status, result = check_command([*TINY, "1", "foreign"], load_pack("deepspeed").invariants)

    assert status != 0
    assert ["DSP002"] == [finding.code for finding in result.findings]


@pytest.mark.slow
def test_zero_2_that_keeps_only_the_last_micro_batch_is_found_and_its_twin_is_clean() -> None:
    folder = HERE.parent / "bugs" / "X18_zero2_keeps_last_micro_batch"
    pack = load_pack("deepspeed").invariants

    _, buggy = check_command([sys.executable, str(folder / "buggy.py")], pack)
    _, clean = check_command([sys.executable, str(folder / "clean.py")], pack)

    assert [("DSP001", 6)] == [(finding.code, finding.step) for finding in buggy.findings]
    assert () == clean.findings


TRAINER = """
import sys, time
import deepspeed.ops
deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
import torch
import torch.distributed as dist
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments
from traincheck.integrations.transformers import TrainCheckCallback

torch.manual_seed(0)
config = BertConfig(vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
rows = [{"input_ids": torch.randint(40, (8,)), "labels": torch.tensor(number % 2)} for number in range(64)]
callback = TrainCheckCallback(zoo="pytorch", overhead=None)
zero = {
    "zero_optimization": {"stage": 1},
    "zero_allow_untested_optimizer": True,
    "train_micro_batch_size_per_gpu": "auto",
    "gradient_accumulation_steps": "auto",
    "gradient_clipping": "auto",
}
arguments = TrainingArguments(
    output_dir=sys.argv[1], per_device_train_batch_size=4, gradient_accumulation_steps=2, num_train_epochs=1,
    save_strategy="no", use_cpu=True, deepspeed=zero, optim="adamw_torch", disable_tqdm=True,
)
trainer = Trainer(BertForSequenceClassification(config), arguments, train_dataset=rows, callbacks=[callback])
trainer.train()
found = [finding.message for finding in callback.findings]
held = "DST005" in {invariant.code for invariant in callback.result.held}
print("TOLD", trainer.state.global_step, callback.result.steps, found, held, flush=True)
dist.barrier()
time.sleep(0.2)
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_under_the_transformers_trainer_the_step_is_the_trainer_s_and_a_clean_run_is_clean(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    (tmp_path / "train.py").write_text(TRAINER)

    command = [*TORCHRUN, str(tmp_path / "train.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr[-3000:]
    found = sorted(re.findall(r"TOLD \d+ \d+ \[.*?\] (?:True|False)", done.stdout))
    assert [
        "TOLD 4 5 [] False",
        "TOLD 4 5 [] True",
    ] == found  # with what follows the last step; the first rank compares the model's own parameters


@pytest.mark.slow
def test_the_launcher_of_deepspeed_is_followed_into_the_processes_that_it_starts() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = str(listener.getsockname()[1])
    launcher = [str(Path(sys.executable).with_name("deepspeed")), "--num_gpus", "2", "--master_port", port]
    recipe = HERE.parent.parent / "recipes" / "deepspeed" / "zero.py"

    status, result = check_command([*launcher, str(recipe), "--epochs", "1"], load_pack("deepspeed").invariants)

    assert 0 == status
    assert () == result.findings
    assert 23 == result.steps
    assert "DST005" in {invariant.code for invariant in result.held}
