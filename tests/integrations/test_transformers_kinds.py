"""Kinds of Trainers and models: each trains cleanly under its pack, with seeds and settings that taught it nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("transformers")

RECIPES = Path(__file__).resolve().parents[2] / "recipes" / "transformers"
CHECK = [str(Path(sys.executable).with_name("traincheck-check")), "--zoo", "transformers", "--format", "json", "--"]

SFT = """
import sys
import torch
from datasets import Dataset
from text import make_tokenizer, paragraphs
from transformers import LlamaConfig, LlamaForCausalLM, set_seed
from trl import SFTConfig, SFTTrainer

set_seed(0)
torch.set_num_threads(1)
tokenizer = make_tokenizer()
config = LlamaConfig(
    vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
    max_position_embeddings=128, pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
)
rows = [{"prompt": text[:40], "completion": text[40:120]} for text in paragraphs()[:128]]
arguments = SFTConfig(
    output_dir=sys.argv[1], per_device_train_batch_size=8, gradient_accumulation_steps=2, num_train_epochs=2,
    max_length=64, use_cpu=True, bf16=False, disable_tqdm=True, report_to="none", save_strategy="epoch",
)
SFTTrainer(
    model=LlamaForCausalLM(config), args=arguments, train_dataset=Dataset.from_list(rows), processing_class=tokenizer
).train()
"""


def check(command: list[str], folder: Path) -> tuple[int, list[str], set[str], str]:
    """Status, codes of the findings, codes of what held, and what was said."""
    path = os.pathsep.join([str(RECIPES), os.environ.get("PYTHONPATH", "")])
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    done = subprocess.run(
        [*CHECK, sys.executable, *command],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    document = json.loads(done.stdout)
    found = [finding["code"] for finding in document["findings"]]
    return done.returncode, found, {entry["code"] for entry in document["held"]}, done.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "held"),
    [
        ("classify.py --seed 31 --compile", "CKP005"),
        ("causal_lm.py --seed 32 --checkpointing --bf16 --tied --batch-size 6", "ACC001"),
        ("seq2seq.py --seed 33 --batch-size 12", "END001"),
        ("lora.py --seed 34 --rank 3 --accumulation 3", "OPT009"),
        ("resume.py --seed 35 --interrupted-at 4 19", "CKP008"),
    ],
)
def test_a_recipe_is_clean_with_other_settings(tmp_path: Path, recipe: str, held: str) -> None:
    name, *options = recipe.split()
    if name == "lora.py":
        pytest.importorskip("peft")

    status, found, holding, said = check([str(RECIPES / name), *options], tmp_path)

    assert (0, []) == (status, found), said
    assert held in holding


@pytest.mark.slow
def test_supervised_fine_tuning_with_trl_is_clean(tmp_path: Path) -> None:
    pytest.importorskip("trl")
    (tmp_path / "sft.py").write_text(SFT)

    status, found, holding, said = check(["sft.py", str(tmp_path / "out")], tmp_path)

    assert (0, []) == (status, found), said
    assert {"ACC001", "END001", "CKP005"} <= holding
