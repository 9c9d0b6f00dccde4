"""Recording: turns a running PyTorch program into records, without changing what it computes."""

from traincheck.record.session import LAUNCHED, Session, active

__all__ = ["LAUNCHED", "Session", "active"]
