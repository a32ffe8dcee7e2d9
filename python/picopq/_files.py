"""What files of models and indexes hold, as arrays."""

from __future__ import annotations

import os
import warnings
from typing import Literal, NamedTuple, TypeAlias

from . import _native
from ._arrays import F32, I64, Codes, Metric
from ._errors import PicoPQError, PicoPQWarning

Path: TypeAlias = str | os.PathLike[str]
# What docs/format.md describes, or what Faiss writes.
Kind: TypeAlias = Literal["picopq", "faiss", "faiss_id_map2"]


class Stored(NamedTuple):
    """What a file of a model or an index holds."""

    metric: Metric
    codewords: F32  # (M, Ks, Ds)
    rotation: F32 | None = None  # (D, D)
    codes: Codes | None = None  # (N, M)
    ids: I64 | None = None  # (N,)
    block: int = 0  # rows of a block of a fast scan; 0 = row by row


def load(path: Path, kind: Kind) -> Stored:
    metric, codewords, rotation, codes, ids, block = _native.load(path, kind)
    return Stored("dot" if metric == "dot" else "l2", codewords, rotation, codes, ids, block)


def save(path: Path, kind: Kind, stored: Stored) -> None:
    """Write a whole file, or leave what the path holds."""
    ks = stored.codewords.shape[1]
    if kind != "picopq" and (missing := (1 << max(1, (ks - 1).bit_length())) - ks):
        warnings.warn(
            f"Ks = {ks} is no power of two: {missing} codewords that no vector is near fill "
            "each sub-space",
            PicoPQWarning,
            stacklevel=3,
        )
    _native.save(path, kind, *stored)


def load_model(path: Path, rotated: bool) -> Stored:
    """A file of a model alone, with or without a rotation as asked for."""
    stored = load(path, "picopq")
    if stored.codes is not None:
        raise PicoPQError(f"{os.fspath(path)} holds an index, not a model alone")
    if (stored.rotation is not None) != rotated:
        kind = "an OPQ, not a PQ" if stored.rotation is not None else "a PQ, not an OPQ"
        raise PicoPQError(f"{os.fspath(path)} holds {kind}")
    return stored
