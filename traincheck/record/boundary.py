"""The boundary between TrainCheck and the program: a fault of ours is told once and never reaches the training."""

from __future__ import annotations

import time
import traceback
import types
import warnings
from _thread import get_ident
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch._C._dynamo import eval_frame as _dynamo

from traincheck.plan import Interruption

T = TypeVar("T")

# Bound here once: where this runs, in the middle of a step, every look-up on the way costs.
_without_functions = torch._C.DisableTorchFunction
_set_eval_frame = _dynamo.set_eval_frame
_now_ns = time.perf_counter_ns


class Boundary:
    """Runs our work inside the program. A hook that fails once is switched off; ``faults`` tells what was lost."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.spent_ns = 0
        """Time spent in our work so far."""
        self._off: set[str] = set()
        self._inside: set[int] = set()
        """The threads that are in work of ours."""

    def run(self, hook: str, work: Callable[..., T], *args: Any) -> T | None:
        """``work(*args)``, unseen by ``torch.compile`` and by function modes; ``None`` when it failed."""
        if hook in self._off:
            return None
        thread = get_ident()
        if thread in self._inside:
            return self._run_inside(hook, work, args)
        self._inside.add(thread)
        prior = _set_eval_frame(None)
        spent_ns, began_ns = self.spent_ns, _now_ns()
        try:
            with _without_functions():
                return work(*args)
        except Interruption:
            raise
        except Exception as error:
            self._switch_off(hook, error)
            return None
        finally:
            self.spent_ns = spent_ns + _now_ns() - began_ns
            self._inside.discard(thread)
            _set_eval_frame(prior)

    def _run_inside(self, hook: str, work: Callable[..., T], args: tuple[Any, ...]) -> T | None:
        """Work inside of work: unseen already, and its time is part of the outer one's."""
        try:
            return work(*args)
        except Interruption:
            raise
        except Exception as error:
            self._switch_off(hook, error)
            return None

    def yes(self, hook: str, question: Callable[[tuple[Any, ...]], bool], args: tuple[Any, ...]) -> bool:
        """``question(args)``, and yes where it fails. Asked so often that its time is not measured."""
        prior = _set_eval_frame(None)
        try:
            return question(args)
        except Exception as error:
            self._switch_off(hook, error)
            return True
        finally:
            _set_eval_frame(prior)

    def begin_process(self) -> None:
        """A forked child has one thread only, and it forked outside of our work."""
        self._inside.clear()

    def inside(self) -> bool:
        """Whether this thread is in work of ours."""
        return get_ident() in self._inside

    def note(self, text: str) -> None:
        """Say that something is not recorded, without it being an error."""
        if text not in self.faults:
            self.faults.append(text)

    def _switch_off(self, hook: str, error: Exception) -> None:
        self._off.add(hook)
        place = traceback.extract_tb(error.__traceback__)[-1]
        text = f"{hook}: {type(error).__name__}: {error} ({place.name}, line {place.lineno}); no longer recorded"
        self.faults.append(text)
        # A program that turns warnings into errors must not be ended by ours.
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            warnings.warn(f"TrainCheck: {text}", RuntimeWarning, stacklevel=4)


def hide_from_compiler(code: types.CodeType) -> None:
    """Let ``torch.compile`` run frames of ``code`` as they are, as it does with torch's own: it still inlines them."""
    strategy = getattr(_dynamo, "set_code_exec_strategy", None)
    if strategy is not None:
        skip, default = _dynamo._FrameAction.SKIP, _dynamo._FrameAction.DEFAULT
        strategy(code, _dynamo._FrameExecStrategy(skip, default))
    elif hasattr(_dynamo, "skip_code"):
        _dynamo.skip_code(code)


hide_from_compiler(Boundary.run.__code__)
hide_from_compiler(Boundary.yes.__code__)
