"""What `progress=` means: nothing, a bar, or the caller's own function of (done, total)."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TypeAlias

from ._errors import PicoPQError

Report: TypeAlias = Callable[[int, int], object]
Progress: TypeAlias = bool | Report | None


_NOBODY: AbstractContextManager[None] = nullcontext()


def reporting(progress: Progress, label: str) -> AbstractContextManager[Report | None]:
    """The function to call with (done, total) during the block, None where nobody listens."""
    if progress is None or progress is False:
        return _NOBODY
    if progress is True:
        return _bar(label)
    if callable(progress):
        return nullcontext(progress)
    raise PicoPQError(f"progress: got {progress!r}, want None, a bool or a callable")


@contextmanager
def _bar(label: str) -> Iterator[Report]:
    try:
        tqdm = importlib.import_module("tqdm").tqdm
    except ImportError:
        tqdm = _Line
    with tqdm(desc=label) as bar:

        def report(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield report


def part(report: Report | None, first: int, last: int, total: int) -> Report | None:
    """The report of one of several calls: the one that goes from `first` to `last` of `total`."""
    if report is None:
        return None
    return lambda done, of: report(first + (last - first) * done // max(of, 1), total)


class _Line:
    """The few calls of tqdm that `reporting` makes, as one line on stderr."""

    def __init__(self, desc: str) -> None:
        self.desc, self.n, self.total = desc, 0, 0

    def __enter__(self) -> _Line:
        return self

    def update(self, steps: int) -> None:
        self.n += steps
        percent = 100 * self.n // max(self.total, 1)
        print(f"\r{self.desc}: {percent:3d} %", end="", file=sys.stderr, flush=True)

    def __exit__(self, *exception: object) -> None:
        print(file=sys.stderr)
