"""How all tests run: one thread each, because two run at a time, and no deadline for a property on a busy machine."""

from __future__ import annotations

import os

from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile("suite", settings(), deadline=None)
settings.load_profile("suite")
