"""Parameters that get gradients and that nobody trains: from one step to the next they are what they were."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from traincheck.record.fingerprints import fingerprints

_NAMED: Final = 3


class Idle:
    """What parameters held at the last step at which they were looked at."""

    def __init__(self) -> None:
        self._looked_at: Any = WeakIdKeyDictionary()
        """With each: that step, a fingerprint of its content, and one of its gradient."""

    def among(self, params: Sequence[Tensor], step: int) -> tuple[list[Tensor], bool]:
        """Those that got another gradient than then and did not change; and whether all were looked at before.

        That they stay the same tells them from those which a program updates by hand.
        """
        found: list[Tensor] = []
        all_before = True
        contents, gradients = fingerprints(params), fingerprints([param.grad for param in params])
        for param, content, gradient in zip(params, contents, gradients, strict=True):
            then, content_then, gradient_then = self._looked_at.get(param, (step, None, None))
            self._looked_at[param] = (step, content, gradient)
            all_before &= then != step
            # A gradient that stays is left from an earlier training.
            if then != step and content == content_then and gradient != gradient_then:
                found.append(param)
        return found, all_before


def some_of(names: Iterable[str]) -> str:
    """The first of these names, each once, and how many more there are."""
    distinct = list(dict.fromkeys(names))
    more = f" and {len(distinct) - _NAMED} more" if len(distinct) > _NAMED else ""
    return ", ".join(distinct[:_NAMED]) + more
