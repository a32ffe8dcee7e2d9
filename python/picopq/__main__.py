"""The command line: `python -m picopq`, and `picopq` on the path."""

from __future__ import annotations

import sys

from . import _native


def main() -> int:
    return _native.main(["picopq", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
