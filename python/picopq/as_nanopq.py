"""Run a program with picopq in the place of nanopq.

    python -m picopq.as_nanopq script.py argument ...
    python -m picopq.as_nanopq -m module argument ...
"""

from __future__ import annotations

import os
import runpy
import sys

from ._alias import install_as_nanopq

__all__ = ["install_as_nanopq", "main"]


def main() -> None:
    """Run the script or module that the command line names."""
    arguments = sys.argv[1:]
    is_module = arguments[:1] == ["-m"]
    program = arguments[is_module:]
    if not program or (program[0].startswith("-") and not os.path.exists(program[0])):
        sys.exit(__doc__)
    install_as_nanopq()
    sys.argv = program
    if is_module:
        runpy.run_module(program[0], run_name="__main__", alter_sys=True)
    else:
        # As `python script.py` does: imports are looked up beside the script first.
        if not getattr(sys.flags, "safe_path", False):
            sys.path[0] = os.path.dirname(os.path.realpath(program[0]))
        runpy.run_path(program[0], run_name="__main__")


if __name__ == "__main__":
    main()
