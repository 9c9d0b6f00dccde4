"""What `make demo` shows: a real silent bug in a real training, found with no reference run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CHECK = Path(sys.executable).with_name("traincheck-check")


def test_the_demo_names_the_head_that_the_optimizer_still_holds() -> None:
    program = ROOT / "recipes" / "demo" / "digits_wrong_head.py"
    command = [CHECK, "--zoo", "pytorch", "--format", "json", "--", sys.executable, program]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    (finding,) = json.loads(done.stdout)["findings"]

    assert 1 == done.returncode
    assert "OPT001" == finding["code"]
    assert ["DigitsNet.head.weight (replaced)", "DigitsNet.head.bias (replaced)"] == finding["violations"][0]["names"]
    assert "loss" in done.stderr  # the program's own output, kept apart from the document
