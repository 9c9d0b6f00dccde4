"""``from_pretrained``: whether the model holds what lies on disk, told as a load of weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from torch import Tensor
from transformers import PreTrainedModel

from traincheck.record import Session
from traincheck.record.arguments import argument, qualified
from traincheck.record.hooks_checkpoint import compared, live_tensors
from traincheck.record.patching import Hook
from traincheck.record.saved import read_weights
from traincheck.values import Value
from traincheck.vocabulary import CHECKPOINT_LOAD

METHOD: Final = "from_pretrained"


def attach(session: Session, framework: Any) -> None:
    """Have every model that is loaded from a folder compared with what lies there."""

    def begins(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """The model does not exist yet."""

    def ends(token: None, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, error: Any) -> None:
        model = result[0] if isinstance(result, tuple) else result
        folder = argument(args, kwargs, 1, "pretrained_model_name_or_path")
        if error is not None or not isinstance(model, PreTrainedModel) or folder is None:
            return
        if Path(folder).is_dir():
            _tell(session, model, Path(folder))
        else:
            session.models.settled.update(dict.fromkeys(model.parameters(), True))

    session.patches.wrap(framework.PreTrainedModel, METHOD, Hook(METHOD, begins, ends))


def _tell(session: Session, model: PreTrainedModel, folder: Path) -> None:
    label = session.models.add(model)
    on_disk = read_weights(folder)
    found = _found(model, on_disk)
    if not found:
        return  # a format of its own
    session.models.loaded.update(dict.fromkeys(found.values(), True))
    account: dict[str, Value] = {"matched": len(found), "differing": compared(on_disk, found)["differing"]}
    session.tell(CHECKPOINT_LOAD, f"{qualified(type(model))}.{METHOD}", label, {"strict": False}, account)


def _found(model: PreTrainedModel, on_disk: dict[str, Tensor]) -> dict[str, Tensor]:
    """The live tensors that the file has something for, by their names there.

    A head may be put on a base model, or a base model taken from under its head. A tensor of another shape, or that was
    quantised, was not taken from the file as it is.
    """
    prefix = f"{model.base_model_prefix}."
    live = live_tensors(model)
    known = {name.removeprefix(prefix): tensor for name, tensor in live.items()} | live
    found = {name: known.get(name, known.get(name.removeprefix(prefix))) for name in on_disk}
    return {
        name: tensor
        for name, tensor in found.items()
        if tensor is not None
        and tensor.shape == on_disk[name].shape
        and tensor.is_floating_point() == on_disk[name].is_floating_point()
    }
