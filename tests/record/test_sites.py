"""A finding sends its reader to the line of the user's own code that made the call."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from traincheck.record.sites import Sites


def called(sites: Sites, file: Path | str, module: str = "__main__") -> str:
    """What is found from a function of ``file`` that calls into a library, on its third line."""
    library: dict[str, Any] = {"sites": sites, "__name__": "torch.nn.modules.module"}
    inside = "def forward():\n    return sites.innermost()"
    exec(compile(inside, "/x/site-packages/torch/nn/module.py", "exec"), library)
    program: dict[str, Any] = {"forward": library["forward"], "__name__": module}
    exec(compile("\ndef step():\n    return forward()", str(file), "exec"), program)
    return program["step"]()


def test_the_innermost_line_of_the_user_s_code_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sites = Sites()

    assert f"train.py:3 {Path('src', 'loop.py')}:3" == " ".join(
        called(sites, tmp_path / file) for file in ("train.py", "src/loop.py")
    )
    assert "/elsewhere/train.py:3" == called(sites, "/elsewhere/train.py")


@pytest.mark.parametrize(
    ("file", "module"),
    [
        (os.path.join(os.path.dirname(os.__file__), "runpy.py"), "runpy"),
        ("/x/.venv/lib/site-packages/lightning/fit.py", "lightning.fit"),
        ("/x/integrations/lightning.py", "traincheck.integrations.lightning"),
        ("<string>", "__main__"),
    ],
)
def test_libraries_and_ourselves_are_passed_over(file: str, module: str) -> None:
    assert Path(__file__).name == Path(called(Sites(), file, module).rpartition(":")[0]).name


def test_the_calls_of_a_step_are_recorded_with_their_lines(record) -> None:
    def program() -> None:
        net = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        net(torch.randn(2, 4)).sum().backward()
        optimizer.step()

    first = program.__code__.co_firstlineno
    kept = record(program)
    lines = {role: kept.calls(role)[0].args.get("site") for role in ("forward", "backward", "optimizer.step")}

    assert [first + 3, first + 3, first + 4] == [int(str(site).rpartition(":")[2]) for site in lines.values()]
    assert all(Path(str(site).rpartition(":")[0]).name == Path(__file__).name for site in lines.values())
    assert [None] == [call.args.get("site") for call in kept.calls("dropout")]
