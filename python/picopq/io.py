"""Files of vectors in blocks: .npy, fvecs, bvecs, ivecs, fbin, u8bin, i8bin, ibin, Parquet."""

from __future__ import annotations

import os
from collections.abc import Iterator

from . import _native
from ._arrays import F32, integer

__all__ = ["blocks"]


def blocks(
    path: str | os.PathLike[str], rows: int = 65536, *, column: str | None = None
) -> Iterator[F32]:
    """The vectors of a file, at most `rows` at a time: arrays (count, D) float32.

    The extension tells the format. Of a Parquet table `column` is read, which holds numbers or
    lists of equally many; by default the only one of lists. Memory: one block, whatever the length
    of the file.
    """
    reader = _native.Rows(path, column)
    count = integer("rows", rows, 1)
    return _blocks(reader, count)


def _blocks(reader: _native.Rows, count: int) -> Iterator[F32]:
    while len(block := reader.read(count)):
        yield block
