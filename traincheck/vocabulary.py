"""The training vocabulary: the roles that API calls play, whatever the API is called.

An invariant about ``Adadelta.step`` says nothing about ``AdamW.step``; one about the role ``optimizer.step`` holds for
both. The recorder gives roles to calls, adapters translate a framework's moments into them, relations prefer them.
"""

from __future__ import annotations

from typing import Final

OPTIMIZER_STEP: Final = "optimizer.step"
ZERO_GRAD: Final = "optimizer.zero_grad"
BACKWARD: Final = "backward"
FORWARD: Final = "forward"
MODULE_FORWARD: Final = "module.forward"
LOSS: Final = "loss"
GRAD_CLIP: Final = "grad.clip"
GRAD_UNSCALE: Final = "grad.unscale"
SCALER_SCALE: Final = "scaler.scale"
SCALER_STEP: Final = "scaler.step"
SCALER_UPDATE: Final = "scaler.update"
LR_STEP: Final = "lr.step"
DATA_ITER: Final = "data.iter"
DATA_NEXT: Final = "data.next"
DATA_SET_EPOCH: Final = "data.set_epoch"
MODE_TRAIN: Final = "mode.train"
MODE_EVAL: Final = "mode.eval"
CHECKPOINT_SAVE: Final = "checkpoint.save"
CHECKPOINT_LOAD: Final = "checkpoint.load"
OPTIMIZER_LOAD: Final = "optimizer.load"
PARAM_INIT: Final = "param.init"
DROPOUT: Final = "dropout"
ATTENTION: Final = "attention"
MATMUL: Final = "matmul"
AUTOCAST: Final = "autocast"
COLLECTIVE: Final = "collective."
"""Prefix: ``collective.all_reduce``, ``collective.broadcast``, ..."""

SENTENCE_NAME: Final[dict[str, str]] = {
    OPTIMIZER_STEP: "an optimizer step",
    ZERO_GRAD: "a clearing of the gradients (zero_grad)",
    BACKWARD: "a backward pass",
    FORWARD: "a forward pass of the model",
    MODULE_FORWARD: "a forward pass of a layer",
    LOSS: "a loss computation",
    GRAD_CLIP: "a gradient clipping",
    GRAD_UNSCALE: "an unscaling of the gradients",
    SCALER_SCALE: "a scaling of the loss",
    SCALER_STEP: "a step through the gradient scaler",
    SCALER_UPDATE: "an update of the gradient scaler",
    LR_STEP: "a learning-rate scheduler step",
    DATA_ITER: "a start of a pass over the data",
    DATA_NEXT: "a fetch of a batch",
    DATA_SET_EPOCH: "a set_epoch on the sampler",
    MODE_TRAIN: "a switch to training mode",
    MODE_EVAL: "a switch to evaluation mode",
    CHECKPOINT_SAVE: "a checkpoint save",
    CHECKPOINT_LOAD: "a load of model weights",
    OPTIMIZER_LOAD: "a load of optimizer state",
    PARAM_INIT: "an initialisation of a parameter",
    DROPOUT: "a dropout call",
    ATTENTION: "an attention call",
    MATMUL: "a matrix product or convolution",
    AUTOCAST: "an autocast region",
}


def sentence_name(key: str) -> str:
    """How a sentence calls the role or API ``key``: ``"an optimizer step"``, or ``"a call of train.evaluate"``."""
    if key.startswith(COLLECTIVE):
        return f"a collective {key.removeprefix(COLLECTIVE)}"
    return SENTENCE_NAME.get(key) or f"a call of {key}"


STAGES: Final = ("init", "train", "eval", "checkpoint")
"""What a program is doing: before its first training batch, training, evaluating, saving or loading."""

PARAM: Final = "param"
GRAD: Final = "grad"
BUFFER: Final = "buffer"
OPTIMIZER_STATE: Final = "optimizer_state"
LR: Final = "lr"
RNG: Final = "rng"

VARIABLE_KINDS: Final = (PARAM, GRAD, BUFFER, OPTIMIZER_STATE, LR, RNG)

PLURAL: Final[dict[str, str]] = {
    PARAM: "parameters",
    GRAD: "gradients",
    BUFFER: "buffers",
    OPTIMIZER_STATE: "optimizer state",
    LR: "learning rates",
    RNG: "random-number generators",
}
"""How a sentence calls the variables of a kind."""

BEFORE: Final = "before"
AFTER: Final = "after"
