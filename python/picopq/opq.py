"""Optimized product quantization: a learnt rotation before a `PQ`.

As in pq.py, the class owns plain numpy arrays and every call checks them anew.
"""

from __future__ import annotations

import copy
import math
from typing import Literal, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike

from . import _files, _native
from ._arrays import (
    F32,
    F64,
    I64,
    CodeDtype,
    Codes,
    Metric,
    Minit,
    float32,
    integer,
    numbers,
    seed_number,
    vectors,
)
from ._errors import PicoPQError
from ._progress import Progress, reporting
from .pq import PQ, DistanceTable, check_dimension

__all__ = ["OPQ"]

_Self = TypeVar("_Self", bound="OPQ")


class OPQ:
    """Optimized product quantization [Ge14]_: vectors are rotated so that PQ loses less.

    Parameters
    ----------
    M, Ks, metric, verbose
        As for `PQ`.

    Attributes
    ----------
    R : float32 (D, D), or None before fit
        The rotation: a vector x is encoded as the PQ code of x @ R.
    pq : PQ
        The quantizer of the rotated vectors. M, Ks, metric, verbose, code_dtype, codewords, Ds
        and losses are read from it.

    References
    ----------
    .. [Ge14] T. Ge, K. He, Q. Ke, J. Sun, "Optimized Product Quantization", IEEE TPAMI 36(4),
       2014.
    """

    def __init__(
        self, M: int, Ks: int = 256, metric: Metric = "l2", verbose: bool = True
    ) -> None:
        self.pq = PQ(M, Ks, metric=metric, verbose=verbose)
        self.R: F32 | None = None  # (D, D)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, OPQ)
            and self.pq == other.pq
            and np.array_equal(self.R, other.R)  # type: ignore[arg-type]
        )

    @property
    def M(self) -> int:
        """Number of sub-spaces."""
        return self.pq.M

    @property
    def Ks(self) -> int:
        """Codewords per sub-space."""
        return self.pq.Ks

    @property
    def metric(self) -> Metric:
        """What distance tables hold."""
        return self.pq.metric

    @property
    def verbose(self) -> bool:
        """Print what is being done."""
        return self.pq.verbose

    @verbose.setter
    def verbose(self, v: bool) -> None:
        self.pq.verbose = v

    @property
    def code_dtype(self) -> CodeDtype:
        """Type of a code entry."""
        return self.pq.code_dtype

    @property
    def codewords(self) -> F32 | None:
        """Codewords (M, Ks, Ds) of the rotated vectors."""
        return self.pq.codewords

    @property
    def Ds(self) -> int | None:
        """Dimension of a sub-vector."""
        return self.pq.Ds

    @property
    def losses(self) -> F64 | None:
        """Mean squared reconstruction error per vector at each training step."""
        return self.pq.losses

    def eigenvalue_allocation(self, vecs: ArrayLike) -> F32:
        """The rotation (D, D) that suits Gaussian data (Ge 2014, section 3.2).

        Principal directions of `vecs` (N, D) are dealt to the sub-spaces so that the products
        of their variances are balanced.
        """
        array = numbers("vecs", vecs, "N D")
        check_dimension(array.shape[1], self.M)
        return _native.eigenvalue_allocation(float32("vecs", array), self.M)

    def fit(
        self: _Self,
        vecs: ArrayLike,
        parametric_init: bool = False,
        pq_iter: int = 20,
        rotation_iter: int = 10,
        seed: int | None = 123,
        minit: Minit = "points",
        *,
        init: ArrayLike | None = None,
        allow_few_rows: bool = False,
        max_rows: int | None = None,
        drop_nonfinite: bool = False,
        progress: Progress = None,
    ) -> _Self:
        """Learn rotation and codewords in turn.

        Parameters
        ----------
        vecs : (N, D)
            Training vectors, N > Ks.
        parametric_init : bool
            Start from `eigenvalue_allocation(vecs)`; otherwise from it or the identity,
            whichever leads to the lower error.
        pq_iter : int
            Lloyd steps of the last round, at least 1.
        rotation_iter : int
            Rounds; 0 trains a plain PQ on the initial rotation. Where rows are many, every
            other round goes far, so the error may rise from one round to the next.
        seed, minit, init, allow_few_rows, max_rows, drop_nonfinite, progress
            As for `PQ.fit`.

        Raises
        ------
        PicoPQError
            On any argument that does not fit. The object is unchanged after any exception.
        """
        iterations, seed = integer("pq_iter", pq_iter, 1, 2**31 - 1), seed_number(seed)
        rounds = integer("rotation_iter", rotation_iter, 0, 2**31 - 1)
        most = None if max_rows is None else integer("max_rows", max_rows, 1, 2**63 - 1)
        rows, start = self.pq._training_input(vecs, minit, init, allow_few_rows, drop_nonfinite)

        def print_round(step: int, mse: float) -> None:
            print(f"OPQ rotation training: {step} / {rounds}")
            print("==== Reconstruction error:", math.sqrt(mse * len(rows)), "====")

        with reporting(progress, "fit") as report:
            codewords, rotation, losses, empty = _native.train_opq(
                rows,
                self.M,
                self.Ks,
                iterations,
                rounds,
                seed,
                minit,
                start,
                bool(parametric_init),
                allow_few_rows,
                most,
                report,
                print_round if self.verbose else None,
            )
        pq = copy.copy(self.pq)
        pq._take(codewords, losses, empty)
        self.pq, self.R = pq, rotation
        return self

    def rotate(self, vecs: ArrayLike) -> F32:
        """`vecs` @ R, for one vector (D,) or several (N, D); the shape stays, float32."""
        rotation = self._rotation()
        rows = vectors("vecs", vecs, len(rotation), "D", "N D")
        out = np.empty_like(rows)
        _native.rotate(rotation, np.atleast_2d(rows), np.atleast_2d(out), False, None)
        return out

    @overload
    def encode(
        self, vecs: ArrayLike, *, drop_nonfinite: Literal[False] = ..., progress: Progress = ...
    ) -> Codes: ...
    @overload
    def encode(
        self, vecs: ArrayLike, *, drop_nonfinite: Literal[True], progress: Progress = ...
    ) -> tuple[Codes, I64]: ...
    def encode(
        self, vecs: ArrayLike, *, drop_nonfinite: bool = False, progress: Progress = None
    ) -> Codes | tuple[Codes, I64]:
        """The PQ codes (N, M) of the rotated `vecs` (N, D); otherwise as `PQ.encode`."""
        return self.pq._encode(vecs, drop_nonfinite, progress, self._rotation())

    def encode_file(
        self,
        src: _files.Path,
        dst: _files.Path,
        *,
        resume: bool = False,
        block_rows: int | None = None,
        progress: Progress = None,
        column: str | None = None,
    ) -> int:
        """Encode the vectors of a file of any length, rotated; as `PQ.encode_file`."""
        rotation = self._rotation()
        return self.pq._encode_file(src, dst, resume, block_rows, progress, column, rotation)

    def decode(self, codes: ArrayLike, *, progress: Progress = None) -> F32:
        """The vectors (N, D) float32 that `codes` (N, M) stand for, rotated back."""
        return self.pq._decode(codes, progress, self._rotation())

    def dtable(self, query: ArrayLike) -> DistanceTable:
        """The table (M, Ks) of distances from the rotated `query` (D,) to all codewords."""
        return self.pq._dtable(query, self._rotation())

    def search(
        self, queries: ArrayLike, codes: ArrayLike, k: int, *, progress: Progress = None
    ) -> tuple[F32, I64]:
        """The k best of `codes` for `queries`, which are rotated first; as `PQ.search`."""
        return self.pq._search(queries, codes, k, progress, self._rotation())

    def save(self, path: _files.Path) -> None:
        """Write rotation, codewords and metric to a file; as `PQ.save`."""
        _files.save(path, "picopq", self._stored())

    @classmethod
    def load(cls: type[_Self], path: _files.Path) -> _Self:
        """The quantizer that `save` wrote; as `PQ.load`."""
        return cls._of(_files.load_model(path, rotated=True))

    @classmethod
    def _of(cls: type[_Self], stored: _files.Stored) -> _Self:
        m, ks, _ = stored.codewords.shape
        opq = cls(m, ks, stored.metric, verbose=False)
        opq.pq, opq.R = PQ._of(stored), stored.rotation
        return opq

    def _stored(self) -> _files.Stored:
        return self.pq._stored()._replace(rotation=self._rotation())

    def _rotation(self) -> F32:
        """R (D, D), checked against the dimension of the codewords where they are known."""
        if self.R is None:
            raise PicoPQError("not trained: call fit() first")
        rotation = float32("R", numbers("R", self.R, "D D"))
        dim = len(rotation) if self.Ds is None else self.M * self.Ds
        if rotation.shape != (dim, dim):
            raise PicoPQError(f"R: got shape {rotation.shape}, want (D, D) = {(dim, dim)}")
        return rotation
