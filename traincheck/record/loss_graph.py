"""What a loss is made of, read off autograd's graph right below it: no tensor is looked at.

Three mistakes stand there in full: a loss of logits that is given probabilities, a difference that broadcasting has
spread over all pairs of a batch, and a loss that was divided by the number of micro-batches twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from traincheck.record.fingerprints import unseen
from traincheck.record.loss_weights import MOST_NODES
from traincheck.values import Value

_LIKELIHOODS = ("NllLossBackward0", "NllLoss2DBackward0")
_OF_LOGITS = {"LogSoftmaxBackward0": "log_softmax", "BinaryCrossEntropyWithLogitsBackward0": "sigmoid"}
_PROBABILITIES = {"SoftmaxBackward0": "softmax", "SigmoidBackward0": "sigmoid"}
_DIFFERENCES = ("SubBackward0", "RsubBackward1", "MseLossBackward0", "SmoothL1LossBackward0", "HuberLossBackward0")
_QUOTIENTS = ("DivBackward0", "DivBackward1")
_SAME_NUMBERS = (
    "ToCopyBackward0",
    "CloneBackward0",
    "AliasBackward0",
    "ViewBackward0",
    "UnsafeViewBackward0",
    "ReshapeAliasBackward0",
    "PermuteBackward0",
    "TransposeBackward0",
    "SliceBackward0",
    "SelectBackward0",
    "IndexBackward0",
    "SqueezeBackward0",
    "SqueezeBackward1",
)
"""What moves numbers about and changes none."""

_BETWEEN = (
    *_SAME_NUMBERS,
    *_LIKELIHOODS,
    *_OF_LOGITS,
    *_DIFFERENCES,
    *_QUOTIENTS,
    "AbsBackward0",
    "AddBackward0",
    "MeanBackward0",
    "MeanBackward1",
    "MulBackward0",
    "MulBackward1",
    "NegBackward0",
    "PowBackward0",
    "SqrtBackward0",
    "SumBackward0",
    "SumBackward1",
)
"""What lies between a loss and the outputs that it judges."""


_MEANT = ("UnsqueezeBackward0", "AccumulateGrad")
"""What is given a new dimension, or is a parameter, may well be meant for all pairs."""


def loss_graph(loss: Any) -> dict[str, Value]:
    """What can be said of this loss; nothing where a compiler has put its graph away."""
    if not isinstance(loss, Tensor) or loss.numel() != 1 or loss.grad_fn is None:
        return {}
    found: dict[str, Value] = {}
    with unseen():
        for node in _walk(loss.grad_fn):
            for name, (wrong, words) in _findings(node):
                if wrong or name not in found:
                    found |= {name: wrong, f"{name}_as": words}
        twice = _divided_twice(loss.grad_fn)
    return found if twice is None else found | {"divided_twice": twice[0], "divided_twice_as": twice[1]}


def _walk(root: Any) -> Iterator[Any]:
    waiting, seen = [root], {root}
    for _ in range(MOST_NODES):
        if not waiting:
            return
        node = waiting.pop(0)
        yield node
        if node.name() in _BETWEEN:
            below = [following for following in _below(node) if following not in seen]
            seen.update(below)
            waiting += below


def _findings(node: Any) -> Iterator[tuple[str, tuple[bool, str]]]:
    name, below = node.name(), _below(node)
    if name in _OF_LOGITS and below:
        given = _PROBABILITIES.get(_source(below[0]).name(), "")
        yield "probabilities", (bool(given), f"{given}, and then {_OF_LOGITS[name]} of what it gave")
    elif name in _LIKELIHOODS and below:
        given = _PROBABILITIES.get(_source(below[0]).name(), "")
        yield "probabilities", (bool(given), f"{given} without a logarithm")
    elif name in _DIFFERENCES and len(below) == 1:
        shape, given_shape = _shape(node), _shape(below[0])
        if below[0].name() == "ExpandBackward0" and _below(below[0]):
            shape, given_shape = given_shape, _shape(_below(below[0])[0])
        predicted = not _source(below[0]).name().endswith(_MEANT)
        if predicted and shape is not None and given_shape is not None:
            yield "all_pairs", (_spread(given_shape, shape), f"{given_shape} became {shape}")


def _spread(given: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether predictions for a batch, ``(n, 1)`` or ``(n,)``, met targets of the other of these shapes."""
    return len(shape) == 2 and shape[0] == shape[1] > 1 and given in ((shape[0], 1), (shape[0],))


def _divided_twice(root: Any) -> tuple[bool, str] | None:
    """Whether a mean is divided by one number, and then by the same number again; ``None`` where nothing divides."""
    by = _divisor(root)
    if by is None:
        return None
    second = _source(_below(root)[0])
    again = _divisor(second)
    mean = again is not None and _is_mean(_source(_below(second)[0]))
    return by == again and mean, f"by {by:g}, and by {by:g} again"


def _divisor(node: Any) -> float | None:
    """The whole number greater than one by which this node divides."""
    if node.name() not in _QUOTIENTS or node.next_functions[0][0] is None:
        return None
    other = node._saved_other
    if isinstance(other, Tensor):
        if other.numel() != 1 or other.device.type != "cpu":
            return None
        other = other.item()
    return float(other) if other > 1 and other == int(other) else None


def _is_mean(node: Any) -> bool:
    return node.name().startswith("Mean") or getattr(node, "_saved_reduction", None) == 1


def _source(node: Any) -> Any:
    """What gave the numbers that reach ``node``."""
    for _ in range(MOST_NODES):
        below = _below(node)
        if node.name() not in _SAME_NUMBERS or len(below) != 1:
            break
        node = below[0]
    return node


def _below(node: Any) -> list[Any]:
    return [following for following, _ in node.next_functions if following is not None]


def _shape(node: Any) -> tuple[int, ...] | None:
    """Of the node's first output."""
    described = getattr(node, "_input_metadata", None)
    return tuple(int(length) for length in described[0].shape) if described else None
