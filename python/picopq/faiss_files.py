"""Faiss's index files, read and written without Faiss."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from . import _files
from ._arrays import I64, Codes, code_array, integer, numbers
from ._errors import PicoPQError
from .opq import OPQ
from .pq import PQ

__all__ = ["FaissIndex", "read_faiss", "write_faiss"]


class FaissIndex(NamedTuple):
    """What a Faiss file of an index with vectors holds."""

    model: PQ | OPQ
    codes: Codes  # (N, M)
    ids: I64 | None = None  # (N,), of an IndexIDMap
    fast_scan: int = 0  # rows of a block of an IndexPQFastScan; 0 = IndexPQ


def read_faiss(path: _files.Path) -> PQ | OPQ | FaissIndex:
    """The PQ or OPQ that a Faiss file holds, and, if there are any, the codes and ids.

    Reads an IndexPQ, an IndexPQFastScan, an IndexPreTransform of rotations around one of them,
    an IndexIDMap or IndexIDMap2, and what `faiss.write_ProductQuantizer` writes. Raises
    PicoPQError that names any other type, or the place where the file is not what it should be.
    """
    stored = _files.load(path, "faiss")
    model = OPQ._of(stored) if stored.rotation is not None else PQ._of(stored)
    if stored.codes is None or len(stored.codes) == 0:
        return model
    return FaissIndex(model, stored.codes, stored.ids, stored.block)


def write_faiss(obj: PQ | OPQ | FaissIndex, path: _files.Path) -> None:
    """Write an index that Faiss reads: byte for byte what Faiss would write.

    A PQ becomes an IndexPQ, an OPQ an IndexPreTransform around one, both without vectors. Where
    Ks is no power of two, codewords that never win are added, with a PicoPQWarning. All of the
    file is written, or nothing: what `path` held before stays.
    """
    index = obj if isinstance(obj, FaissIndex) else None
    model = obj.model if isinstance(obj, FaissIndex) else obj
    if not isinstance(model, PQ | OPQ):
        raise PicoPQError(f"obj: got {type(obj).__name__}, want PQ, OPQ or FaissIndex")
    stored = model._stored()
    if index is not None:
        ids = None if index.ids is None else numbers("ids", index.ids, "N", kinds="iu")
        stored = stored._replace(
            codes=code_array(index.codes, model.M, model.Ks),
            ids=None if ids is None else np.require(ids, np.int64, ["C", "A", "E"]),
            block=integer("fast_scan", index.fast_scan, 0),
        )
    _files.save(path, "faiss", stored)
