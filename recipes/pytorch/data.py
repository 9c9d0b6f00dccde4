"""The real inputs of the recipes: scikit-learn's handwritten digits, and the English text of Python's own help."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor


def digits(size: int = 8) -> tuple[Tensor, Tensor]:
    """1797 images of shape ``(1, size, size)`` with values in 0..1, and their labels 0..9."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    scaled = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    if size != 8:
        scaled = torch.nn.functional.interpolate(scaled, size=(size, size), mode="bilinear", align_corners=False)
    return scaled, torch.tensor(labels, dtype=torch.long)


def split_digits(size: int = 8, test: int = 360) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The digits as ``(training images, labels), (test images, labels)``; the last ``test`` images are held out."""
    images, labels = digits(size)
    return (images[:-test], labels[:-test]), (images[-test:], labels[-test:])


def topics_text() -> str:
    """465 kB of English prose: every topic of Python's ``help()``."""
    from pydoc_data.topics import topics

    return "\n".join(topics[name] for name in sorted(topics))


def topics_bytes() -> Tensor:
    """The text as byte tokens, 0..255, one long row."""
    return torch.frombuffer(bytearray(topics_text().encode()), dtype=torch.uint8).long()


def topics_words(vocabulary: int) -> Tensor:
    """The text as word tokens: 0 is any word outside the ``vocabulary - 1`` most frequent ones."""
    words = topics_text().lower().split()
    known = {word: number for number, (word, _) in enumerate(Counter(words).most_common(vocabulary - 1), start=1)}
    return torch.tensor([known.get(word, 0) for word in words])
