"""What happens when a finding shows in a running training: a warning, an exception, a wish to stop, or a call."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final, Literal, TypeAlias

from traincheck.findings import Finding
from traincheck.plan import Interruption

OnViolation: TypeAlias = "Literal['warn', 'raise', 'stop'] | Callable[[Finding], object]"
NAMED: Final = ("warn", "raise", "stop")

LOGGER: Final = logging.getLogger("traincheck")


class ViolationError(Interruption):
    """A training run that asked for it ends here, because it is silently wrong."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__("\n".join(told(finding) for finding in self.findings))


class Reaction:
    """Answers to new findings in the way that the user chose."""

    def __init__(
        self, on_violation: OnViolation, *, listen: Callable[[Finding], object] | None = None, quiet: bool = False
    ) -> None:
        """``listen`` is told of every finding before anything else happens; ``quiet``: no warnings (other ranks)."""
        if not callable(on_violation) and on_violation not in NAMED:
            raise ValueError(f"on_violation is {on_violation!r}; expected one of {', '.join(NAMED)}, or a function")
        self.should_stop = False
        """With ``stop``: whether the loop should end now."""
        self._on_violation = on_violation
        self._listen = listen
        self._quiet = quiet

    def __call__(self, findings: Sequence[Finding]) -> None:
        """Raises :class:`ViolationError` if that was chosen, and lets through the one that a user's function raises."""
        if self._listen is not None:
            for finding in findings:
                self._tell(self._listen, finding)
        if self._on_violation == "raise":
            raise ViolationError(findings)
        if callable(self._on_violation):
            for finding in findings:
                self._tell(self._on_violation, finding)
            return
        for finding in () if self._quiet else findings:
            LOGGER.warning("%s", told(finding))
        if self._on_violation == "stop":
            self.should_stop = True

    def _tell(self, function: Callable[[Finding], object], finding: Finding) -> None:
        try:
            function(finding)
        except Interruption:
            raise
        except Exception:
            LOGGER.exception("the on_violation function failed for this finding: %s", told(finding))


def told(finding: Finding) -> str:
    """A finding in a few lines: what it is and where, what was seen, what to do."""
    lines = [f"TrainCheck {finding.code}: {finding.title} (step {finding.step}, rank {finding.rank})", finding.message]
    if finding.fix:
        lines.append(f"What to do: {finding.fix}")
    return "\n  ".join(line for line in lines if line)
