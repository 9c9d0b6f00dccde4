"""``traincheck-collect``: runs a command unchanged and records a trace of its training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, NoReturn

import typer

from traincheck.cli import boundary, new_app, tell
from traincheck.errors import UserError
from traincheck.trace.layout import MANIFEST_NAME, PARTS_NAME, part_sizes
from traincheck.trace.storage import TracePath

NAME: Final = "traincheck-collect"

NOTHING_RECORDED: Final = (
    "nothing was recorded: no Python process of this command imported torch (in an environment with traincheck-suite) "
    "and began to train"
)

app = new_app()


@app.command(
    context_settings={"allow_interspersed_args": False, "help_option_names": ["-h", "--help"]},
    epilog="The exit status is that of the command; 127 when it does not exist.",
)
def collect(
    command: Annotated[
        list[str], typer.Argument(metavar="COMMAND", help="Run as it is, for example: python train.py --lr 1e-3")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="The trace directory to write.")] = Path(
        "traincheck-trace"
    ),
    trace_module: Annotated[
        list[str] | None,
        typer.Option(metavar="PKG", help="Record calls of this package's functions too. May be given several times."),
    ] = None,
) -> None:
    """Run COMMAND unchanged and record its training as a trace: input for traincheck-infer and traincheck-check."""
    from traincheck.launch import NOT_EXECUTABLE, NOT_FOUND, Launch, run, session
    from traincheck.trace import Manifest, write_manifest

    _refuse_to_overwrite(output)
    existed = output.exists()
    try:
        write_manifest(output, Manifest.for_command(command))
    except OSError as error:
        raise UserError(f"{output} cannot be written: {error.strerror}. Choose another directory with -o") from error
    launch = Launch(mode="collect", directory=str(output.resolve()), modules=tuple(trace_module or ()))
    with session() as folder:
        status = run(command, launch, folder)
    if part_sizes(output):
        tell(NAME, _summary(output))
    else:
        _clear(output, existed)
        if status not in (NOT_FOUND, NOT_EXECUTABLE):
            tell(NAME, NOTHING_RECORDED)
    raise typer.Exit(status)


def _refuse_to_overwrite(output: Path) -> None:
    if not output.exists():
        return
    if not output.is_dir():
        raise UserError(f"{output} is a file; a trace is a directory. Choose another one with -o")
    if (output / PARTS_NAME).exists():
        raise UserError(f"{output} already holds a trace. Delete it, or choose another directory with -o")
    if any(path.name != MANIFEST_NAME for path in output.iterdir()):
        raise UserError(f"{output} is neither empty nor a trace. Choose another directory with -o")


def _clear(output: Path, existed: bool) -> None:
    """Nothing was recorded: leave nothing that the next attempt would have to delete."""
    (output / MANIFEST_NAME).unlink(missing_ok=True)
    if not existed and not any(output.iterdir()):
        output.rmdir()


def _summary(output: Path) -> str:
    parts = part_sizes(output)
    steps = max(map(_steps, parts))
    size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    return f"recorded {_count(steps, 'step')} of {_count(len(parts), 'process')} in {output} ({_size(size)})"


def _steps(path: TracePath) -> int:
    """How many steps a part holds; none where its process was killed before it had written the header."""
    from traincheck.trace import Part

    try:
        return Part(path).num_steps()
    except UserError:
        return 0


def _count(number: int, noun: str) -> str:
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB" if size_bytes >= 1e6 else f"{size_bytes / 1e3:.0f} kB"


def main() -> NoReturn:
    """The entry point."""
    with boundary(NAME):
        app(prog_name=NAME)
    raise SystemExit(0)
