"""Adapters without an edit: a command that is launched under TrainCheck gets them as it imports its frameworks."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

import wrapt

from traincheck.record import Session

ADAPTERS: Final = {
    "transformers.modeling_utils": "transformers_loading",
    "transformers.trainer": "transformers_moments",
    "deepspeed.runtime.engine": "deepspeed_moments",
    "lightning.pytorch.trainer.trainer": "lightning_moments",
    "pytorch_lightning.trainer.trainer": "lightning_moments",
    "accelerate": "accelerate_moments",
}
"""The module that a framework's own loop (or loading) lives in, and the one here whose ``attach`` is given that one."""


def attach_when_imported(session: Session) -> None:
    """Have each framework that this process imports, or has imported, tell ``session`` its steps."""
    for framework, adapter in ADAPTERS.items():
        _attach_when_imported(session, framework, adapter)


def _attach_when_imported(session: Session, framework: str, adapter: str) -> None:
    def attach(module: Any) -> None:
        if session.gate.awake:
            session.boundary.run(f"adapter {adapter}", _attach, session, adapter, module)

    wrapt.register_post_import_hook(attach, framework)


def _attach(session: Session, adapter: str, framework: Any) -> None:
    import_module(f"traincheck.integrations.{adapter}").attach(session, framework)
