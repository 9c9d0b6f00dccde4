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
GRAD_RESTART: Final = "grad.restart"
"""What was accumulated is given up: the next gradients are not added to it."""
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
SPECTRAL_NORM: Final = "spectral_norm"
TRAINER_BEGIN: Final = "trainer.begin"
TRAINER_PREPARE: Final = "trainer.prepare"
TRAINER_STEP: Final = "trainer.step"
TRAINER_SAVE: Final = "trainer.save"
TRAINER_LOAD: Final = "trainer.load"
TRAINER_END: Final = "trainer.end"
"""What the loop of a framework says of itself, through its adapter."""
RANKS_PART: Final = "ranks.part"
"""A rank has run out of uneven inputs (``Join``): from here on, steps of one number are not the same on all ranks."""
COLLECTIVE: Final = "collective."
"""Prefix: ``collective.all_reduce``, ``collective.broadcast``, ...; alone it stands for all of them."""
COLLECTIVES: Final = tuple(
    f"{COLLECTIVE}{name}"
    for name in (
        "all_reduce",
        "all_gather",
        "all_gather_into_tensor",
        "all_gather_single",
        "broadcast",
        "reduce",
        "reduce_scatter",
        "reduce_scatter_tensor",
        "reduce_scatter_single",
        "gather",
        "scatter",
        "all_to_all",
        "all_to_all_single",
        "barrier",
    )
)

NOUN: Final[dict[str, str]] = {
    OPTIMIZER_STEP: "optimizer step",
    ZERO_GRAD: "zero_grad",
    BACKWARD: "backward pass",
    FORWARD: "forward pass of the model",
    MODULE_FORWARD: "forward pass of a layer",
    LOSS: "loss computation",
    GRAD_CLIP: "gradient clipping",
    GRAD_UNSCALE: "unscaling of the gradients",
    GRAD_RESTART: "restart of gradient accumulation",
    SCALER_SCALE: "scaling of the loss",
    SCALER_STEP: "step of the gradient scaler",
    SCALER_UPDATE: "update of the gradient scaler",
    LR_STEP: "learning-rate scheduler step",
    DATA_ITER: "start of a pass over the data",
    DATA_NEXT: "fetch of a batch",
    DATA_SET_EPOCH: "set_epoch of the sampler",
    MODE_TRAIN: "switch to training mode",
    MODE_EVAL: "switch to evaluation mode",
    CHECKPOINT_SAVE: "checkpoint save",
    CHECKPOINT_LOAD: "load of model weights",
    OPTIMIZER_LOAD: "load of optimizer state",
    PARAM_INIT: "initialisation of a parameter",
    DROPOUT: "dropout call",
    ATTENTION: "attention call",
    MATMUL: "matrix product or convolution",
    AUTOCAST: "autocast region",
    TRAINER_BEGIN: "start of the training as the framework tells it",
    TRAINER_PREPARE: "hand-over of a model and its optimizer to a framework",
    TRAINER_STEP: "training step as the framework counts it",
    TRAINER_SAVE: "checkpoint that the framework saved",
    TRAINER_LOAD: "checkpoint that the framework loaded",
    TRAINER_END: "end of the training as the framework counts it",
    RANKS_PART: "end of the inputs of a rank",
    SPECTRAL_NORM: "spectral normalisation of a weight",
}


def noun(key: str) -> str:
    """How a sentence calls the role or API ``key``: ``"optimizer step"``, or ``"call of train.evaluate"``."""
    if key.startswith(COLLECTIVE):
        return f"collective {key.removeprefix(COLLECTIVE)}".strip()
    return NOUN.get(key) or f"call of {key}"


def one(key: str) -> str:
    """:func:`noun` with its article: ``"an optimizer step"``."""
    name = noun(key)
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


TARGET_WEIGHT: Final = "target_weight"
"""How much one target counts in a backward pass."""
LOSS_GRAPH: Final = ("probabilities", "all_pairs", "divided_twice")
"""What the graph of a loss tells of it."""
LABELS_ENDED: Final = "eos_dropped"
LABELS_PADDED: Final = "pad_counted"
LABELS_SHIFTED: Final = "labels_shifted"
MASK_INVERTED: Final = "mask_inverted"
AWAKE: Final = "awake"
"""A part that was put into evaluation mode trains on."""
CARRIED: Final = "carried"
"""What the loss of another optimizer left in gradients is applied."""
LEFT_OUT: Final = "left_out"
PASSED_OVER: Final = "passed_over"
"""Parameters that no optimizer holds: of layers that no model registers, and of models that train."""
UNTIED: Final = "untied"
INPUTS: Final = "inputs"
"""The content of what a model is given, also where no ranks train replicas of it."""
EVERY_LAYER: Final = "every_layer"
"""Forward passes also of what holds no parameters of its own."""
OUTSIDE_AUTOCAST: Final = "outside_autocast"
"""Matrix products also where no autocast region is open."""

DETAILS: Final = frozenset(
    {
        *(TARGET_WEIGHT, *LOSS_GRAPH, LABELS_ENDED, LABELS_PADDED, LABELS_SHIFTED, MASK_INVERTED),
        *(AWAKE, CARRIED, INPUTS, LEFT_OUT, PASSED_OVER, UNTIED),
        *(EVERY_LAYER, OUTSIDE_AUTOCAST),
    }
)
"""What takes time to work out or to record: that is done where somebody reads it, and nowhere else."""

STAGES: Final = ("init", "train", "eval", "checkpoint")
"""What a program is doing: before its first training batch, training, evaluating, saving or loading."""

PARAM: Final = "param"
GRAD: Final = "grad"
BUFFER: Final = "buffer"
OPTIMIZER_STATE: Final = "optimizer_state"
LR: Final = "lr"
RNG: Final = "rng"
ROUNDED: Final = "rounded"
"""Parameters of an optimizer that no model has, as a model in low precision would hold them: master weights."""

VARIABLE_KINDS: Final = (PARAM, GRAD, BUFFER, OPTIMIZER_STATE, LR, RNG, ROUNDED)

PLURAL: Final[dict[str, str]] = {
    PARAM: "parameters",
    GRAD: "gradients",
    BUFFER: "buffers",
    OPTIMIZER_STATE: "optimizer state",
    LR: "learning rates",
    RNG: "random-number generators",
    ROUNDED: "rounded master weights",
}
"""How a sentence calls the variables of a kind."""

BEFORE: Final = "before"
AFTER: Final = "after"
