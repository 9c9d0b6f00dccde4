"""Open calls: sequence numbers, one nesting stack per thread, and the records that calls become when they end."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from traincheck.events import Call, Context, Record
from traincheck.values import Value


@dataclass(slots=True, eq=False)
class OpenCall:
    """A call that has begun. ``args`` and ``out`` may be filled until it ends."""

    seq: int
    parent: int
    role: str
    api: str
    subject: str
    context: Context
    args: dict[str, Value]
    thread: int
    time_ns: int
    started_ns: int
    out: dict[str, Value] = field(default_factory=dict)
    recorded: bool = True
    """False once it has been given out."""

    def record(self, end: int, error: str = "") -> Call:
        """The call as it is stored; ``end == -1`` while it is open."""
        duration = time.perf_counter_ns() - self.started_ns if end >= 0 else 0
        return Call(
            self.seq,
            end,
            self.parent,
            self.role,
            self.api,
            self.subject,
            self.context,
            self.args,
            self.out,
            error,
            self.thread,
            self.time_ns,
            duration,
        )


class _Thread(threading.local):
    """What is open in one thread."""

    def __init__(self, register: Callable[[list[OpenCall]], int]) -> None:
        self.stack: list[OpenCall] = []
        self.index = register(self.stack)
        self.modules: list[str] = []
        """Paths of the modules whose forward is running, outermost first."""
        self.modes: list[bool] = []
        """Their ``training`` flags."""
        self.tokens: Tensor | None = None
        """The token ids that the outermost of them was given, if it was given any."""
        self.inside: dict[Any, int] = {}
        """How deep each kind of call is nested, for hooks that speak of the outermost one."""
        self.optimizers: list[Any] = []
        """Optimizer steps that are running, outermost first."""
        self.functions: list[tuple[Any, OpenCall]] = []
        """The project's functions that are running, by frame."""


class Calls:
    """Numbers calls as they begin, and gives them to ``emit`` as they end."""

    def __init__(self, emit: Callable[[Record], None]) -> None:
        self._emit = emit
        self._numbers = itertools.count()
        self._stacks: list[list[OpenCall]] = []
        self.thread = _Thread(self._register)

    def next_seq(self) -> int:
        """The next position in the order of everything recorded by this process."""
        return next(self._numbers)

    def open(self, role: str, api: str, subject: str, context: Context, args: dict[str, Value]) -> OpenCall:
        """Begin a call in this thread."""
        thread = self.thread
        stack = thread.stack
        call = OpenCall(
            next(self._numbers),
            stack[-1].seq if stack else -1,
            role,
            api,
            subject,
            context,
            args,
            thread.index,
            time.time_ns(),
            time.perf_counter_ns(),
        )
        stack.append(call)
        return call

    def close(self, call: OpenCall, error: str = "") -> None:
        """End it, and with it whatever in this thread began inside and was left without an end."""
        stack = self.thread.stack
        if stack and stack[-1] is call:
            stack.pop()
        elif call in stack:
            while stack.pop() is not call:
                pass
        if call.recorded:
            call.recorded = False
            self._emit(call.record(next(self._numbers), error))

    def announce(self, call: OpenCall | None) -> None:
        """Give out a call that has begun and may never end: what it was about to do is known then."""
        if call is not None and call.recorded:
            self._emit(call.record(-1))

    def emit_open(self) -> None:
        """Give out every call that is still open, once."""
        for stack in self._stacks:
            for call in stack:
                if call.recorded:
                    call.recorded = False
                    self._emit(call.record(-1))

    def _register(self, stack: list[OpenCall]) -> int:
        self._stacks.append(stack)
        return len(self._stacks) - 1
