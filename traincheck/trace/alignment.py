"""Which parts ran side by side as the ranks of one run, and their windows in lock-step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from traincheck.trace.part import Part
from traincheck.vocabulary import RANKS_PART
from traincheck.window import Window, windows


def runs(parts: Sequence[Part]) -> list[tuple[Part, ...]]:
    """``parts`` as runs, in order of start; the parts of a run are in order of rank.

    A run is what one launcher started together: equal world size above one, and each rank once. A rank that appears
    again is a restart, or a child that inherited its rank, and belongs to another run.
    """
    found: list[dict[int, Part]] = []
    for part in sorted(parts, key=lambda part: (part.header.started_ns, part.header.rank)):
        for run in found:
            if _belongs(part, run):
                run[part.header.rank] = part
                break
        else:
            found.append({part.header.rank: part})
    return [tuple(run[rank] for rank in sorted(run)) for run in found]


def _belongs(part: Part, run: dict[int, Part]) -> bool:
    mine, first = part.header, next(iter(run.values())).header
    together = (mine.world_size, mine.launch) == (first.world_size, first.launch)
    return mine.world_size > 1 and mine.rank not in run and together


def aligned(run: Sequence[Part]) -> Iterator[Window]:
    """The windows of all ranks of a run, step by step and in order of rank within a step.

    The first window of a step knows its peers. A rank without the step does not take part in it, nor does one from the
    step on in which it has left the others (``ranks.part``).
    """
    streams = [windows(part.process, part.records()) for part in run]
    heads = [next(stream, None) for stream in streams]
    apart: set[int] = set()
    while present := [head for head in heads if head is not None]:
        step = min(window.step for window in present)
        group = [window for window in present if window.step == step]
        apart.update(window.process.rank for window in group if window.named(RANKS_PART))
        _introduce([window for window in group if window.process.rank not in apart])
        yield from group
        heads = [
            next(stream, None) if head is not None and head.step == step else head
            for stream, head in zip(streams, heads, strict=True)
        ]


def _introduce(group: Sequence[Window]) -> None:
    """Relations know which of them ended within the step."""
    if len(group) > 1:
        group[0].peers = tuple(group)
