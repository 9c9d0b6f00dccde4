"""Gathering evidence on a Ray cluster: the one that is running, or else one that is started on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

from traincheck.errors import UserError
from traincheck.evidence import Summary
from traincheck.gathering import Task


class RayCluster:
    """Each task is one of Ray's. Its workers need this package, and must find the traces at the same places."""

    def __init__(self, workers: int | None = None) -> None:
        """``workers`` tasks at a time; by default one for each core. Raises :class:`UserError` without Ray."""
        self._ray = _ray()
        if not self._ray.is_initialized():
            # Nobody who infers invariants has asked for statistics to be sent.
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            self._ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        self.workers = workers or max(1, int(self._ray.cluster_resources().get("CPU", 1)))

    def summaries(self, tasks: Sequence[Task]) -> Iterator[Summary]:
        """What comes of each task, in their order."""
        remote = self._ray.remote(Task.summary)
        for result in [remote.remote(task) for task in tasks]:
            try:
                yield self._ray.get(result)
            except self._ray.exceptions.RayTaskError as error:
                raise (error.cause if isinstance(error.cause, UserError) else error) from None


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise UserError("--engine ray needs Ray: pip install 'traincheck-suite[ray]'") from error
    return ray
