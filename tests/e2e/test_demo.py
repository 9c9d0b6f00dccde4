"""What `make demo` shows: a real silent bug in a real training, found with no reference run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "recipes" / "demo"
CHECK = Path(sys.executable).with_name("traincheck-check")


def test_the_demo_names_the_head_that_the_optimizer_still_holds() -> None:
    program = DEMO / "digits_wrong_head.py"
    command = [CHECK, "--zoo", "pytorch", "--format", "json", "--", sys.executable, program]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    (finding,) = json.loads(done.stdout)["findings"]

    assert 1 == done.returncode
    assert "OPT001" == finding["code"]
    assert ["DigitsNet.head.weight (replaced)", "DigitsNet.head.bias (replaced)"] == finding["violations"][0]["names"]
    assert "loss" in done.stderr  # the program's own output, kept apart from the document


@pytest.mark.slow
def test_the_callback_to_copy_warns_once_and_only_where_something_is_wrong() -> None:
    pytest.importorskip("transformers")
    program = [sys.executable, DEMO / "transformers_callback.py"]

    clean = subprocess.run(program, capture_output=True, text=True, check=True, timeout=300)
    wrong = subprocess.run([*program, "--wrong"], capture_output=True, text=True, check=True, timeout=300)

    assert "What to do" not in clean.stderr
    assert 1 == wrong.stderr.count("TrainCheck OPT001")
    assert "BertForSequenceClassification.classifier.weight" in wrong.stderr
