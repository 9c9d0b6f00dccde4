"""Runs a program under ``traincheck.watch``: ``under_watch.py off|every|BUDGET PROGRAM``.

``off`` opens a watch and closes it again before the program begins: what was installed and used must cost nothing.
"""

import runpy
import sys
from pathlib import Path

import traincheck

how, program = sys.argv[1:3]
sys.path.insert(0, str(Path(program).parent))
watched = traincheck.watch(overhead=float(how) if how[0].isdigit() else None)
if how == "off":
    watched.close()
sys.argv = sys.argv[2:]
runpy.run_path(program, run_name="__main__")
watched.close()
