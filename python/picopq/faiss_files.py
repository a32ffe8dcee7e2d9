"""Faiss's index files, read and written without Faiss."""

from __future__ import annotations

import numpy as np

from . import _files
from ._errors import PicoPQError
from .index import Index
from .opq import OPQ
from .pq import PQ

__all__ = ["read_faiss", "write_faiss"]

# Rows of a block of Faiss's fast scan.
_BLOCK = 32


def read_faiss(path: _files.Path) -> PQ | OPQ | Index:
    """What a Faiss file holds: an Index, or without vectors a PQ or an OPQ.

    Reads an IndexPQ, an IndexPQFastScan, an IndexPreTransform of rotations around one of them,
    an IndexIDMap or IndexIDMap2, and what `faiss.write_ProductQuantizer` writes. Raises
    PicoPQError that names any other type, or the place where the file is not what it should be.
    """
    stored = _files.load(path, "faiss")
    if stored.codes is None or len(stored.codes) == 0:
        return OPQ._of(stored) if stored.rotation is not None else PQ._of(stored)
    return Index._of(stored)


def write_faiss(
    obj: PQ | OPQ | Index, path: _files.Path, *, fast_scan: bool = False, id_map2: bool = False
) -> None:
    """Write an index that Faiss reads: byte for byte what Faiss would write.

    A PQ becomes an IndexPQ, an OPQ an IndexPreTransform around one, both without vectors; an Index
    one with its codes, in an IndexIDMap unless its ids are 0 to N - 1. `fast_scan` writes an
    IndexPQFastScan instead, for Ks = 16; `id_map2` puts an Index, whatever its ids, in an
    IndexIDMap2, which `read_faiss` does not tell from an IndexIDMap. Where Ks is no power of two,
    codewords that never win are added, with a PicoPQWarning. All of the file is written, or
    nothing: what `path` held before stays.
    """
    if not isinstance(obj, PQ | OPQ | Index):
        raise PicoPQError(f"obj: got {type(obj).__name__}, want PQ, OPQ or Index")
    stored = obj._stored()._replace(block=_BLOCK if fast_scan else 0)
    if not id_map2:
        _files.save(path, "faiss", stored)
        return
    if not isinstance(obj, Index):
        raise PicoPQError(f"id_map2: got {type(obj).__name__}, want an Index, which has ids")
    if stored.ids is None:
        stored = stored._replace(ids=np.arange(len(obj), dtype=np.int64))
    _files.save(path, "faiss_id_map2", stored)
