"""Whose optimizer state it was when it was last taken, so that it is recognised when it comes back.

Content tells: a moment that was saved for one parameter and is loaded for another one is misplaced, provided that the
other one had a moment of its own in the same save. Only this process is remembered, and nothing but fingerprints.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Final

from torch import Tensor
from torch.optim import Optimizer

from traincheck.record.fingerprints import fingerprints
from traincheck.record.models import Models
from traincheck.values import Value

MOST_SAVES: Final = 8

Contents = dict[tuple[str, str], int]
"""The fingerprint of each tensor of state, by the parameter's path in its model and the name of the state."""


class StateMemory:
    """The last states that were taken from the optimizers of this process."""

    def __init__(self) -> None:
        self._saves: deque[Contents] = deque(maxlen=MOST_SAVES)

    def taken(self, contents: Contents) -> None:
        """An optimizer gave out its state."""
        if contents and contents not in self._saves:
            self._saves.append(contents)

    def recognised(self, contents: Contents) -> dict[str, Value]:
        """What is known of state that was just loaded: how many tensors of it are at another parameter than before."""
        best: tuple[int, list[str]] = (0, [])
        for save in self._saves:
            owners = _owners(save)
            known = {place: owners[digest] for place, digest in contents.items() if digest in owners}
            wrong = [
                f"{place[1]} of {place[0]} is that of {owner[0]}"
                for place, owner in known.items()
                if owner != place and owner[1] == place[1] and save.get(place) in owners
            ]
            right = sum(owner == place for place, owner in known.items())
            best = max(best, (right + len(wrong), wrong), key=lambda found: found[0])
        recognised, misplaced = best
        if not recognised:
            return {}
        return {"misplaced": len(misplaced), "misplaced_example": misplaced[0] if misplaced else ""}


def state_contents(optimizer: Optimizer, models: Models) -> Contents:
    """What an optimizer keeps for each parameter, but for single numbers."""
    places: list[tuple[str, str]] = []
    tensors: list[Tensor] = []
    for owned in models.held_by(optimizer):
        for key, value in optimizer.state.get(owned.tensor, {}).items():
            if isinstance(value, Tensor) and value.numel() > 1:
                places.append((owned.name.partition(".")[2], str(key)))
                tensors.append(value)
    digests = fingerprints(tensors)
    return {place: digest for place, digest in zip(places, digests, strict=True) if digest is not None}


def _owners(save: Contents) -> dict[int, tuple[str, str]]:
    """To which parameter each content belongs; contents that several have (zeros) belong to none."""
    often = Counter(save.values())
    return {digest: place for place, digest in save.items() if often[digest] == 1}
