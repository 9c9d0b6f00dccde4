"""What a loss is made of, read off autograd's graph right below it: no tensor is looked at.

Three mistakes stand there in full: a loss of logits that is given probabilities, a difference that broadcasting has
spread over all pairs of a batch, and a loss that was divided by the number of micro-batches twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from torch import Tensor

from traincheck.record.fingerprints import unseen
from traincheck.values import Value

MOST_NODES: Final = 24
"""A sum over all parameters may lie beside what is judged; each node looked at takes some microseconds."""

_LIKELIHOODS = ("NllLossBackward0", "NllLoss2DBackward0")
_OF_LOGITS = {"LogSoftmaxBackward0": "log_softmax", "BinaryCrossEntropyWithLogitsBackward0": "sigmoid"}
_PROBABILITIES = {"SoftmaxBackward0": "softmax", "SigmoidBackward0": "sigmoid"}
_DIFFERENCES = ("SubBackward0", "RsubBackward1", "MseLossBackward0", "SmoothL1LossBackward0", "HuberLossBackward0")
_TELLING: Final = frozenset({*_LIKELIHOODS, *_OF_LOGITS, *_DIFFERENCES})
_QUOTIENTS = ("DivBackward0", "DivBackward1")
_SAME_NUMBERS: Final = frozenset(
    f"{name}Backward{number}"
    for name in (
        *("ToCopy", "Clone", "Alias", "View", "UnsafeView", "ReshapeAlias", "Permute", "Transpose", "Slice", "Select"),
        *("Index", "Squeeze"),
    )
    for number in (0, 1)
)
"""What moves numbers about and changes none."""

_ELEMENT_WISE: Final = frozenset(
    f"{name}Backward{number}"
    for name in ("Abs", "Add", "Mean", "Mul", "Neg", "Pow", "Sqrt", "Sum")
    for number in (0, 1)
)
_BETWEEN: Final = _SAME_NUMBERS | _TELLING | _ELEMENT_WISE | frozenset(_QUOTIENTS)
"""What lies between a loss and the outputs that it judges."""

_MEANT = ("UnsqueezeBackward0", "AccumulateGrad")
"""What is given a new dimension, or is a parameter, may well be meant for all pairs."""


def loss_graph(loss: Any) -> dict[str, Value]:
    """What can be said of this loss; nothing where a compiler has put its graph away."""
    if not isinstance(loss, Tensor) or loss.numel() != 1 or loss.grad_fn is None:
        return {}
    try:
        with unseen():
            return _said(loss.grad_fn)
    except RuntimeError:  # a saved tensor was changed in place, or is gone: the program's own affair
        return {}


def _said(root: Any) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for node, name, below in _walk(root):
        judged = _judged(node, name, below) if name in _TELLING and len(below) == 1 else None
        if judged is not None and (judged[1] or judged[0] not in found):
            found |= {judged[0]: judged[1], f"{judged[0]}_as": judged[2]}
    twice = _divided_twice(root)
    return found if twice is None else found | {"divided_twice": twice[0], "divided_twice_as": twice[1]}


def _walk(root: Any) -> Iterator[tuple[Any, str, list[Any]]]:
    """The nodes from the loss down to what it judges, each with its name and the nodes below it."""
    waiting, seen = [root], {root}
    for _ in range(MOST_NODES):
        if not waiting:
            return
        node = waiting.pop(0)
        name = node.name()
        if name in _BETWEEN:
            below = _below(node)
            yield node, name, below
            new = [following for following in below if following not in seen]
            seen.update(new)
            waiting += new


def _judged(node: Any, name: str, below: list[Any]) -> tuple[str, bool, str] | None:
    """What a node says with the one that it is given: the name of the fact, whether it is wrong, and in words."""
    source = _source(below[0]).name()
    kind = _PROBABILITIES.get(source, "")
    if name in _OF_LOGITS:
        return "probabilities", bool(kind), f"{kind}, and then {_OF_LOGITS[name]} of what it gave"
    if name in _LIKELIHOODS:
        return "probabilities", bool(kind), f"{kind} without a logarithm"
    if source.endswith(_MEANT):
        return None
    shape, given = _shape(node), _shape(below[0])
    if below[0].name() == "ExpandBackward0":
        shape, given = given, _shape(_below(below[0])[0])
    if shape is None or given is None:
        return None
    return "all_pairs", _spread(given, shape), f"{given} became {shape}"


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
