"""Recording: turns a running PyTorch program into records, without changing what it computes."""

from traincheck.record.session import Session, active

__all__ = ["Session", "active"]
