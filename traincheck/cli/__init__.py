"""What the commands share: how they start, how they print, and how an error becomes one line."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NoReturn

import typer

from traincheck.errors import UserError

ERROR: Final = 2
INTERRUPTED: Final = 130

DEFAULT_WIDTH: Final = 100


def new_app() -> typer.Typer:
    """A command whose help is plain text and whose faults are plain tracebacks."""
    return typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def run(app: typer.Typer, name: str, arguments: Sequence[str] | None = None) -> NoReturn:
    """Run ``app`` as the command ``name`` and exit. What follows the first ``--`` reaches it as ``context.obj``."""
    own, command = split_command(sys.argv[1:] if arguments is None else arguments)
    with boundary(name):
        typer.main.get_command(app).main(args=own, prog_name=name, obj=command)
    raise SystemExit(0)


def split_command(arguments: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """The arguments before the first ``--``, and the command after it."""
    if "--" not in arguments:
        return list(arguments), ()
    place = list(arguments).index("--")
    return list(arguments[:place]), tuple(arguments[place + 1 :])


@contextmanager
def boundary(name: str) -> Iterator[None]:
    """Where a user's mistake becomes one line on standard error, and exit status 2."""
    try:
        yield
    except UserError as error:
        tell(name, str(error))
        raise SystemExit(ERROR) from None
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None


def tell(name: str, line: str) -> None:
    """One line on standard error, from the command ``name``."""
    text = " ".join(line.split())
    print(f"{name}: {''.join(c if c.isprintable() else '?' for c in text)}", file=sys.stderr, flush=True)


def emit(text: str) -> None:
    """Write ``text`` to standard output. A reader that has gone away is no error: the exit status still tells."""
    try:
        sys.stdout.flush()
        if hasattr(sys.stdout, "buffer"):
            sys.stdout.buffer.write(text.encode("utf-8", "backslashreplace"))
        else:
            sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter flushes once more when it ends, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def wants_color() -> bool:
    """Whether standard output is a terminal that shows colours, and the user has not said no."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def width() -> int:
    """Columns of the terminal."""
    return shutil.get_terminal_size((DEFAULT_WIDTH, 24)).columns if sys.stdout.isatty() else DEFAULT_WIDTH
