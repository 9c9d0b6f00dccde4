"""Holding out: the evidence of runs, in the groups that are left out in turn. So many at most, however many the runs.

Runs of a single program are left out one by one; of several programs, each with all its runs, because what one program
does must not depend on having seen it. Where there would be too many groups, runs (or programs) are put together by a
digest of their identity. The groups follow from the set of runs alone: not from the order in which they came, nor from
what was already put together when the others came.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Final

from traincheck.evidence import Run, Summary, merged

MAX_GROUPS: Final = 64


def grouped(summaries: Iterable[Summary]) -> list[Summary]:
    """The same evidence in its groups, ordered by their runs. Groups may themselves be grouped again with others."""
    known = [summary for summary in summaries if summary.runs]
    runs = {run for summary in known for run in summary.runs}
    programs = {run.program for run in runs}
    groups: dict[str, Summary] = {}
    for summary in known:
        groups.setdefault(_group(summary.runs[0], len(runs), len(programs)), Summary()).merge(summary)
    return sorted(groups.values(), key=lambda summary: summary.runs)


def held_out(groups: Sequence[Summary]) -> Iterator[tuple[Summary, Summary]]:
    """Each group, and all others merged: from what goes before and after it, so that many groups stay affordable."""
    before = list(accumulate(groups, _both, initial=Summary()))
    after = list(accumulate(reversed(groups), _both, initial=Summary()))[::-1]
    for place, group in enumerate(groups):
        yield group, _both(before[place], after[place + 1])


def _both(one: Summary, other: Summary) -> Summary:
    return merged((one, other))


def _group(run: Run, num_runs: int, num_programs: int) -> str:
    if num_programs > 1:
        return run.program if num_programs <= MAX_GROUPS else _bucket(run.program)
    return repr(run) if num_runs <= MAX_GROUPS else _bucket(run.identity or run.name)


def _bucket(name: str) -> str:
    return str(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % MAX_GROUPS)
