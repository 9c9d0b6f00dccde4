"""Trainers in processes of their own: on two ranks, and without an edit under the commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers")

ROOT = Path(__file__).resolve().parents[2]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
CHECK = [str(Path(sys.executable).with_name("traincheck-check")), "--zoo", "transformers", "--format", "json", "--"]

RANKS = """
import json, sys, time
from pathlib import Path
import torch
import torch.distributed as dist
from transformers import TrainerCallback
from tests.integrations.tiny_transformers import tiny_trainer
from traincheck.integrations.transformers import TrainCheckCallback

answer, folder = sys.argv[1], Path(sys.argv[2])


class Drifts(TrainerCallback):
    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step == 3 and args.process_index == 1 and answer != "clean":
            model.classifier.weight.data.mul_(2)


callback = TrainCheckCallback(
    overhead=None, on_violation="stop" if answer == "stop" else "warn", report=folder / "report"
)
trainer = tiny_trainer(folder / "out", callback, Drifts(), samples=160, ddp_find_unused_parameters=False)
trainer.train()
told = {"steps": trainer.state.global_step, "found": [(f.code, f.step) for f in callback.findings]}
(folder / f"rank{trainer.args.process_index}.json").write_text(json.dumps(told))
dist.barrier()
time.sleep(0.2)
dist.destroy_process_group()
"""

ONE = """
import sys
from pathlib import Path
import torch
from transformers import TrainerCallback
from tests.integrations.tiny_transformers import tiny_trainer


class Trouble(TrainerCallback):
    def on_step_begin(self, args, state, control, model=None, **kwargs):
        if state.global_step == 5 and sys.argv[1] == "head":
            model.classifier = torch.nn.Linear(16, 2)


trainer = tiny_trainer(Path(sys.argv[2]), Trouble(), eval_strategy="epoch", save_strategy="epoch")
trainer.train()
trainer.evaluate()
"""


def run(command: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, **environment}
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=300, check=False)


def on_ranks(folder: Path, answer: str) -> tuple[list[dict[str, Any]], str]:
    """What each rank found, and what all of them said."""
    (folder / "train.py").write_text(RANKS)
    done = run([*TORCHRUN, "train.py", answer, str(folder)], folder)
    assert 0 == done.returncode, done.stderr[-2000:]
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in (0, 1)], done.stderr


@pytest.mark.slow
def test_a_rank_that_drifts_is_told_by_the_first_rank_within_a_step(tmp_path: Path) -> None:
    (first, second), said = on_ranks(tmp_path, "warn")

    assert 1 == len(first["found"])
    assert first["found"][0][1] in (2, 3)
    assert 1 == said.count("What to do:")
    assert 20 == first["steps"] == second["steps"]
    assert (tmp_path / "report" / "index.html").exists()
    assert (tmp_path / "report" / "rank-1" / "index.html").exists()


@pytest.mark.slow
def test_all_ranks_stop_at_the_same_step(tmp_path: Path) -> None:
    (first, second), _ = on_ranks(tmp_path, "stop")

    assert first["found"]
    assert first["steps"] == second["steps"] <= 6


@pytest.mark.slow
def test_two_clean_ranks_are_clean(tmp_path: Path) -> None:
    (first, second), _ = on_ranks(tmp_path, "clean")

    assert [] == first["found"] == second["found"]


@pytest.mark.slow
@pytest.mark.parametrize(("trouble", "status", "codes"), [("none", 0, []), ("head", 1, [("OPT001", 5)])])
def test_a_script_is_checked_without_an_edit(
    tmp_path: Path, trouble: str, status: int, codes: list[tuple[str, int]]
) -> None:
    (tmp_path / "train.py").write_text(ONE)

    done = run([*CHECK, sys.executable, "train.py", trouble, str(tmp_path / "out")], tmp_path)

    document = json.loads(done.stdout)
    assert status == done.returncode
    assert codes == [(finding["code"], finding["step"]) for finding in document["findings"]]
    assert {"END001", "CKP005", "ACC001"} <= {entry["code"] for entry in document["held"]}
