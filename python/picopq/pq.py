"""Product quantization: `PQ` and the `DistanceTable` it makes.

The classes own plain numpy arrays that callers may edit; every call checks them anew and hands
them to the stateless functions of `_native`. Nothing is cached.
"""

from __future__ import annotations

import os
import warnings
from typing import Any, Literal, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike

from . import _files, _native
from ._arrays import (
    F32,
    F64,
    I64,
    METRICS,
    MINITS,
    CodeDtype,
    Codes,
    Metric,
    Minit,
    choice,
    code_array,
    code_dtype,
    codeword_array,
    float32,
    integer,
    numbers,
    seed_number,
    vectors,
)
from ._errors import PicoPQError, PicoPQWarning
from ._progress import Progress, part, reporting

__all__ = ["PQ", "DistanceTable"]

_Self = TypeVar("_Self", bound="PQ")

# Tables made at once by a search: 64 MiB of float32.
_TABLE_ENTRIES = 2**24


class PQ:
    """Product quantization [Jegou11]_: vectors become M small integers.

    A vector of D numbers is cut into M sub-vectors of Ds = D / M; each becomes the number of
    the nearest of Ks codewords. Distances to a query are read from a table of M x Ks entries.

    Parameters
    ----------
    M : int
        Number of sub-spaces; must divide D.
    Ks : int
        Codewords per sub-space, 1..2**32. A code entry takes 1 byte up to 2**8, 2 up to 2**16.
    metric : {"l2", "dot"}
        What distance tables hold: squared Euclidean distances, or dot products. Training and
        encoding are Euclidean for both.
    verbose : bool
        Print what is being done.

    Attributes
    ----------
    codewords : float32 (M, Ks, Ds), or None before fit
    Ds : int, or None before fit
    code_dtype : np.uint8, np.uint16 or np.uint32
    losses : float64 (steps,), or None before fit
        Mean squared reconstruction error per vector at each training step.

    References
    ----------
    .. [Jegou11] H. Jegou, M. Douze, C. Schmid, "Product Quantization for Nearest Neighbor
       Search", IEEE TPAMI 33(1), 2011.
    """

    def __init__(
        self, M: int, Ks: int = 256, metric: Metric = "l2", verbose: bool = True
    ) -> None:
        self.M = integer("M", M, 1)
        self.Ks = integer("Ks", Ks, 1, 2**32)
        self.metric: Metric = choice("metric", metric, METRICS)
        self.verbose = verbose
        self.code_dtype: CodeDtype = code_dtype(self.Ks)
        self.codewords: F32 | None = None  # (M, Ks, Ds)
        self.Ds: int | None = None
        self.losses: F64 | None = None
        if verbose:
            print(f"M: {M}, Ks: {Ks}, metric : {metric}, code_dtype: {self.code_dtype}")

    def __eq__(self, other: object) -> bool:
        fields = ("M", "Ks", "metric", "verbose", "code_dtype", "Ds")
        return (
            isinstance(other, PQ)
            and all(getattr(self, field) == getattr(other, field) for field in fields)
            and np.array_equal(self.codewords, other.codewords)  # type: ignore[arg-type]
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Pickles of nanopq lack `losses`, those before its 0.2 also `metric`.
        self.__dict__.update({"metric": "l2", "losses": None} | state)

    def fit(
        self: _Self,
        vecs: ArrayLike,
        iter: int = 20,
        seed: int | None = 123,
        minit: Minit = "points",
        *,
        init: ArrayLike | None = None,
        allow_few_rows: bool = False,
        max_rows: int | None = None,
        drop_nonfinite: bool = False,
        progress: Progress = None,
    ) -> _Self:
        """Learn the codewords by k-means in every sub-space.

        The same vectors, arguments and seed give the same codewords for any number of threads,
        and those of nanopq up to rounding. Clusters that run empty are refilled.

        Parameters
        ----------
        vecs : (N, D)
            Training vectors, N > Ks.
        iter : int
            Lloyd steps, at least 1.
        seed : int or None
            0..2**32 - 1; None takes one from the operating system. numpy's global generator
            is not touched.
        minit : {"points", "++", "random", "matrix"}
            First codewords: rows drawn at random, k-means++, Gaussian draws, or given ones.
        init : (M, Ks, Ds), optional
            First codewords for minit="matrix"; default: the present `codewords`.
        allow_few_rows : bool
            Train with N <= Ks.
        max_rows : int, optional
            Train on at most so many rows, evenly spaced; default: all.
        drop_nonfinite : bool
            Leave out rows that hold NaN or infinity; they are an error otherwise.
        progress : bool or callable, optional
            True draws a bar; a callable gets (done, total). An exception in it cancels.

        Raises
        ------
        PicoPQError
            On any argument that does not fit. The object is unchanged after any exception.
        """
        iterations, seed = integer("iter", iter, 1, 2**31 - 1), seed_number(seed)
        most = None if max_rows is None else integer("max_rows", max_rows, 1, 2**63 - 1)
        rows, start = self._training_input(vecs, minit, init, allow_few_rows, drop_nonfinite)
        with reporting(progress, "fit") as report:
            if self.verbose:
                print(f"iter: {iterations}, seed: {seed}")
            self._print_subspaces("Training")
            learnt = _native.train_pq(
                rows, self.M, self.Ks, iterations, seed, minit, start, allow_few_rows, most, report
            )
        self._take(*learnt)
        return self

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
        """The nearest codewords of `vecs` (N, D): codes (N, M) of `code_dtype`.

        Ties go to the lowest codeword. With drop_nonfinite=True, rows that hold NaN or infinity
        are left out, and the numbers of the rows kept (int64) are returned beside the codes.
        """
        return self._encode(vecs, drop_nonfinite, progress)

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
        """Encode the vectors of a file of any length into an .npy file of codes; returns N.

        Reading overlaps with encoding, and memory does not grow with the file: at most four blocks
        of `block_rows` rows, by default 16 MiB of float32 each. `src` may be .npy, fvecs, bvecs,
        ivecs, fbin, u8bin, i8bin, ibin or .parquet, whose `column` is chosen as in
        `picopq.io.blocks`. Until it is complete, `dst` is called dst + ".partial"; after an
        interrupt, resume=True goes on from there, to the same bytes.
        """
        return self._encode_file(src, dst, resume, block_rows, progress, column)

    def decode(self, codes: ArrayLike, *, progress: Progress = None) -> F32:
        """The vectors (N, D) float32 that `codes` (N, M), of any integer type, stand for.

        Raises IndexError on a code outside 0..Ks-1, naming its place.
        """
        return self._decode(codes, progress)

    def dtable(self, query: ArrayLike) -> DistanceTable:
        """The table (M, Ks) of distances from `query` (D,) to all codewords."""
        return self._dtable(query)

    def search(
        self, queries: ArrayLike, codes: ArrayLike, k: int, *, progress: Progress = None
    ) -> tuple[F32, I64]:
        """The k best of `codes` (N, M) for `queries` (D,) or (nq, D).

        Returns distances (float32) and row numbers (int64), both (k',) or (nq, k') with
        k' = min(k, N), best first: the smallest distance for "l2", the largest product for
        "dot", ties to the lower row. Distances are those of `DistanceTable.adist`.
        """
        return self._search(queries, codes, k, progress)

    def save(self, path: _files.Path) -> None:
        """Write codewords and metric to a file that `load`, or any safetensors reader, opens.

        All of the file is written, or nothing: what `path` held before stays.
        """
        _files.save(path, "picopq", self._stored())

    @classmethod
    def load(cls: type[_Self], path: _files.Path) -> _Self:
        """The quantizer that `save` wrote; not verbose, without losses.

        Raises PicoPQError where the file is damaged or holds something else, OSError.
        """
        return cls._of(_files.load_model(path, rotated=False))

    @classmethod
    def _of(cls: type[_Self], stored: _files.Stored) -> _Self:
        m, ks, ds = stored.codewords.shape
        pq = cls(m, ks, stored.metric, verbose=False)
        pq.codewords, pq.Ds = stored.codewords, ds
        return pq

    def _stored(self) -> _files.Stored:
        return _files.Stored(choice("metric", self.metric, METRICS), self._trained()[0])

    # The same four on rotated vectors, for OPQ.

    def _encode(
        self,
        vecs: ArrayLike,
        drop_nonfinite: bool,
        progress: Progress,
        rotation: F32 | None = None,
    ) -> Codes | tuple[Codes, I64]:
        codewords, dim = self._trained()
        rows, kept = kept_rows(vectors("vecs", vecs, dim, "N D"), drop_nonfinite)
        codes: Codes = np.empty((len(rows), self.M), np.dtype(self.code_dtype))
        with reporting(progress, "encode") as report:
            self._print_subspaces("Encoding")
            _native.encode(codewords, rows, codes, report, rotation)
        return codes if kept is None else (codes, kept)

    def _encode_file(
        self,
        src: _files.Path,
        dst: _files.Path,
        resume: bool,
        block_rows: int | None,
        progress: Progress,
        column: str | None,
        rotation: F32 | None = None,
    ) -> int:
        codewords, _ = self._trained()
        if not os.fspath(dst).endswith(".npy"):
            raise PicoPQError(f"dst: got {os.fspath(dst)!r}, want the extension .npy")
        rows = None if block_rows is None else integer("block_rows", block_rows, 1, 2**63 - 1)
        with reporting(progress, "encode") as report:
            return _native.encode_file(
                codewords, src, dst, bool(resume), rows, report, rotation, column
            )

    def _decode(self, codes: ArrayLike, progress: Progress, rotation: F32 | None = None) -> F32:
        codewords, dim = self._trained()
        checked = code_array(codes, self.M, self.Ks)
        vecs = np.empty((len(checked), dim), np.float32)
        with reporting(progress, "decode") as report:
            _native.decode(codewords, checked, vecs, report, rotation)
        return vecs

    def _dtable(self, query: ArrayLike, rotation: F32 | None = None) -> DistanceTable:
        codewords, dim = self._trained()
        rows = vectors("query", query, dim, "D")[None]
        return DistanceTable(_tables(codewords, rows, self.metric, rotation)[0], self.metric)

    def _search(
        self,
        queries: ArrayLike,
        codes: ArrayLike,
        k: int,
        progress: Progress,
        rotation: F32 | None = None,
    ) -> tuple[F32, I64]:
        k = integer("k", k, 0)
        codewords, dim = self._trained()
        rows = vectors("queries", queries, dim, "D", "nq D")
        checked = code_array(codes, self.M, self.Ks)
        batch = rows.reshape(-1, dim)
        nq, n = len(batch), len(checked)
        dists, ids = np.empty((nq, min(k, n)), np.float32), np.empty((nq, min(k, n)), np.int64)
        step = max(1, _TABLE_ENTRIES // (self.M * self.Ks))
        with reporting(progress, "search") as report:
            for first in range(0, nq, step):
                last = min(first + step, nq)
                _native.search(
                    _tables(codewords, batch[first:last], self.metric, rotation),
                    self.metric,
                    checked,
                    dists[first:last],
                    ids[first:last],
                    part(report, first * n, last * n, nq * n),
                )
        shape = (*rows.shape[:-1], dists.shape[1])
        return dists.reshape(shape), ids.reshape(shape)

    def _trained(self) -> tuple[F32, int]:
        """The codewords (M, Ks, Ds), checked against the other attributes, and D."""
        if self.codewords is None or self.Ds is None:
            raise PicoPQError("not trained: call fit() first")
        wanted = (self.M, self.Ks, self.Ds)
        codewords = codeword_array("codewords", self.codewords, wanted)
        return codewords, codewords.shape[0] * codewords.shape[2]

    def _training_input(
        self,
        vecs: ArrayLike,
        minit: Minit,
        init: ArrayLike | None,
        allow_few_rows: bool,
        drop_nonfinite: bool,
    ) -> tuple[F32, F32 | None]:
        """The rows to train on and, for minit="matrix", the first codewords."""
        choice("minit", minit, MINITS)
        if init is not None and minit != "matrix":
            raise PicoPQError(f"init: only minit='matrix' takes it, got minit={minit!r}")
        array = numbers("vecs", vecs, "N D")
        check_dimension(array.shape[1], self.M)
        start = self._first_codewords(init, array.shape[1]) if minit == "matrix" else None
        self._check_rows(len(array), allow_few_rows)
        rows, kept = kept_rows(float32("vecs", array), drop_nonfinite)
        if kept is not None:
            self._check_rows(len(rows), allow_few_rows)
        return rows, start

    def _first_codewords(self, init: ArrayLike | None, dim: int) -> F32:
        name, value = ("codewords", self.codewords) if init is None else ("init", init)
        if value is None:
            raise PicoPQError("minit='matrix' needs init= or codewords set before fit()")
        return codeword_array(name, value, (self.M, self.Ks, dim // self.M))

    def _check_rows(self, n: int, allow_few_rows: bool) -> None:
        if n == 0:
            raise PicoPQError("vecs has no rows to train on")
        if n <= self.Ks and not allow_few_rows:
            raise PicoPQError(
                f"vecs has {n} rows, Ks = {self.Ks} wants more than {self.Ks}; "
                "allow_few_rows=True trains all the same"
            )

    def _take(self, codewords: F32, losses: F64, empty: int) -> None:
        """Become the result of a training; the warning first, as a filter may raise it."""
        if empty:
            warnings.warn(
                f"{empty} of {self.M * self.Ks} clusters are empty: the data has too few "
                "distinct sub-vectors",
                PicoPQWarning,
                stacklevel=3,
            )
        self.codewords, self.losses, self.Ds = codewords, losses, codewords.shape[2]

    def _print_subspaces(self, action: str) -> None:
        if self.verbose:
            for m in range(self.M):
                print(f"{action} the subspace: {m} / {self.M}")


class DistanceTable:
    """Distances from one query to all codewords, made by `PQ.dtable` or `OPQ.dtable`.

    Parameters
    ----------
    dtable : float32 (M, Ks)
        Entry [m, k]: squared distance, or dot product, of sub-vector m and codeword k.
    metric : {"l2", "dot"}
    """

    def __init__(self, dtable: ArrayLike, metric: Metric = "l2") -> None:
        self.dtable = float32("dtable", numbers("dtable", dtable, "M Ks"))
        self.metric: Metric = choice("metric", metric, METRICS)

    def adist(self, codes: ArrayLike) -> F32:
        """Asymmetric distances (N,) float32 of the query to `codes` (N, M): M look-ups each.

        `codes` may be of any integer type; IndexError names the first outside 0..Ks-1.
        """
        table, checked = self._checked(codes)
        dists = np.empty(len(checked), np.float32)
        _native.adist(table, checked, dists)
        return dists

    def topk(self, codes: ArrayLike, k: int) -> tuple[F32, I64]:
        """The k best of `codes` (N, M): distances and row numbers as `PQ.search` gives them."""
        k = integer("k", k, 0)
        table, checked = self._checked(codes)
        k = min(k, len(checked))
        dists, ids = np.empty((1, k), np.float32), np.empty((1, k), np.int64)
        metric = choice("metric", self.metric, METRICS)
        _native.search(table[None], metric, checked, dists, ids, None)
        return dists[0], ids[0]

    def _checked(self, codes: ArrayLike) -> tuple[F32, Codes]:
        table = float32("dtable", numbers("dtable", self.dtable, "M Ks"))
        return table, code_array(codes, *table.shape)


def _tables(codewords: F32, queries: F32, metric: Metric, rotation: F32 | None) -> F32:
    """The tables (nq, M, Ks) of `queries` (nq, D)."""
    choice("metric", metric, METRICS)
    tables = np.empty((len(queries), *codewords.shape[:2]), np.float32)
    _native.tables(codewords, queries, metric, tables, rotation)
    return tables


def kept_rows(rows: F32, drop_nonfinite: bool) -> tuple[F32, I64 | None]:
    """`rows` without the non-finite ones and the numbers of those kept, if that is asked for."""
    if not drop_nonfinite:
        return rows, None
    kept = _native.finite_rows(rows)
    return (rows if len(kept) == len(rows) else rows[kept]), kept


def check_dimension(dim: int, m: int) -> None:
    """Refuse vectors that cannot be cut into m equal parts."""
    if dim == 0:
        raise PicoPQError("vecs has no columns")
    if dim % m:
        divisors = [d for d in range(1, dim + 1) if dim % d == 0]
        nearest = sorted(sorted(divisors, key=lambda d: abs(d - m))[:2])
        raise PicoPQError(
            f"vecs has dimension {dim}, not a multiple of M = {m}; "
            f"nearest divisors of {dim}: {', '.join(map(str, nearest))}"
        )
