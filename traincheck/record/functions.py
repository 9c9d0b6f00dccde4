"""Functions of the user's own project, as they are called: only in full recordings, only in the main thread.

From Python 3.12 on through ``sys.monitoring``, which costs nothing for code that is not the project's; before it
through ``sys.setprofile``, unless the program itself profiles.
"""

from __future__ import annotations

import inspect
import sys
import sysconfig
import threading
import types
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from traincheck.record.boundary import hide_from_compiler

if TYPE_CHECKING:
    from traincheck.record.session import Session

_ADAPTERS = "traincheck.integrations"

MOST_CALLS: Final = 1000
"""Calls of one function in one step, after which it is no longer recorded: it is a detail, not a part of training."""

_MONITORING: Any = getattr(sys, "monitoring", None)
"""Python 3.12 and later."""

_NOT_PLAIN = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
_INSTALLED = ("site-packages", "dist-packages", ".venv", "venv")


class ProjectFunctions:
    """Records calls of project functions, with no role."""

    def __init__(self, session: Session, project: Path) -> None:
        self._session = session
        self._project = project.resolve()
        self._modules = session.plan.modules
        self._standard = Path(sysconfig.get_paths()["stdlib"]).resolve()
        self._own = Path(__file__).resolve().parents[1]
        self._names: dict[int, tuple[types.CodeType, str | None]] = {}
        """By identity: hashing a code object reads all of its constants. The code object is kept alive here."""
        self._counts: Counter[int] = Counter()
        self._installed = False
        self._tool: int | None = None

    def install(self) -> None:
        """Begin, if the plan is a full one."""
        if self._session.plan.needs is not None:
            return
        if _MONITORING is not None:
            self._monitor(_MONITORING)
        elif sys.getprofile() is None:
            sys.setprofile(self._profile)
            self._installed = True
        else:
            self._session.boundary.note("functions of the project are not recorded: the program profiles itself")

    def remove(self) -> None:
        """Stop."""
        if self._tool is not None:
            _MONITORING.set_events(self._tool, 0)
            _MONITORING.free_tool_id(self._tool)
            self._tool = None
        if self._installed and sys.getprofile() == self._profile:
            sys.setprofile(None)
        self._installed = False

    def window_closed(self) -> None:
        """A step ended."""
        self._counts.clear()

    def _profile(self, frame: types.FrameType, event: str, arg: object) -> None:
        if event == "call":
            known = self._names.get(id(frame.f_code))
            if known is None:
                known = self._session.boundary.run("functions", self._look_up, frame)
            if known is not None and known[1] is not None:
                self._entered(frame, known[1])
        elif event == "return":
            self._left(frame, "")

    def _monitor(self, monitoring: Any) -> None:
        free = [number for number in (3, 4, monitoring.PROFILER_ID) if monitoring.get_tool(number) is None]
        if not free:
            self._session.boundary.note("functions of the project are not recorded: no monitoring tool is free")
            return
        self._tool = free[0]
        monitoring.use_tool_id(self._tool, "traincheck")
        events = monitoring.events
        monitoring.register_callback(self._tool, events.PY_START, self._started)
        monitoring.register_callback(self._tool, events.PY_RETURN, self._returned)
        monitoring.register_callback(self._tool, events.PY_UNWIND, self._unwound)
        monitoring.set_events(self._tool, events.PY_START | events.PY_UNWIND)

    def _started(self, code: types.CodeType, offset: int) -> Any:
        known = self._names.get(id(code))
        if known is None:
            known = self._session.boundary.run("functions", self._look_up, sys._getframe(1))
            if known is not None and known[1] is not None:
                _MONITORING.set_local_events(self._tool, code, _MONITORING.events.PY_RETURN)
        if known is None or known[1] is None:
            return _MONITORING.DISABLE
        if threading.current_thread() is threading.main_thread():
            self._entered(sys._getframe(1), known[1])
        return None

    def _returned(self, code: types.CodeType, offset: int, value: object) -> None:
        self._left(sys._getframe(1), "")

    def _unwound(self, code: types.CodeType, offset: int, error: BaseException) -> None:
        self._left(sys._getframe(1), type(error).__name__)

    def _left(self, frame: types.FrameType, error: str) -> None:
        functions = self._session.calls.thread.functions
        if functions and functions[-1][0] is frame:
            self._session.boundary.run("functions", self._ends, error)

    def _entered(self, frame: types.FrameType, name: str) -> None:
        boundary = self._session.boundary
        if not boundary.inside():  # what TrainCheck itself calls is not the program's work
            boundary.run("functions", self._begins, frame, name)

    def _begins(self, frame: types.FrameType, name: str) -> None:
        session, key = self._session, id(frame.f_code)
        if not session.gate.awake:
            return
        self._counts[key] += 1
        if self._counts[key] > MOST_CALLS:
            self._names[key] = (frame.f_code, None)
            times = f"called over {MOST_CALLS} times in step {session.step}"
            session.boundary.note(f"{name}: {times}; not recorded from here on")
            return
        call = session.open("", name, "")
        if call is not None:
            session.calls.thread.functions.append((frame, call))

    def _ends(self, error: str) -> None:
        _, call = self._session.calls.thread.functions.pop()
        self._session.calls.close(call, error)

    def _look_up(self, frame: types.FrameType) -> tuple[types.CodeType, str | None]:
        code = frame.f_code
        known = self._names[id(code)] = (code, self._name(frame))
        return known

    def _name(self, frame: types.FrameType) -> str | None:
        """Dotted name of a project function; ``None`` for any other."""
        code = frame.f_code
        if code.co_flags & _NOT_PLAIN or code.co_name.startswith("<"):
            return None
        module = str(frame.f_globals.get("__name__", ""))
        chosen = any(module == name or module.startswith(f"{name}.") for name in self._modules)
        # The adapters lie outside of our own folder when the project is our own.
        if module.startswith(_ADAPTERS) or (not chosen and not self._is_project(code.co_filename)):
            return None
        if module in ("__main__", "__mp_main__"):
            module = Path(code.co_filename).stem
        name = getattr(code, "co_qualname", code.co_name).replace("<locals>.", "")
        return f"{module}.{name}"

    def _is_project(self, filename: str) -> bool:
        if filename.startswith("<"):
            return False
        path = Path(filename).resolve()
        if path.is_relative_to(self._own) or path.is_relative_to(self._standard):
            return False
        return path.is_relative_to(self._project) and not any(
            part in _INSTALLED for part in path.relative_to(self._project).parts
        )


for _function in (ProjectFunctions._profile, ProjectFunctions._started, ProjectFunctions._returned):
    hide_from_compiler(_function.__code__)
hide_from_compiler(ProjectFunctions._unwound.__code__)
hide_from_compiler(ProjectFunctions._left.__code__)
