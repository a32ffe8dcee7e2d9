"""Stored codes, searched exactly: `Index`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from . import _files, _native
from ._arrays import F32, I64, Codes, Metric, code_array, float32, id_array, integer
from ._arrays import numbers, subset_array, vectors
from ._errors import PicoPQError
from ._progress import Progress, reporting
from .opq import OPQ
from .pq import PQ

_Self = TypeVar("_Self", bound="Index")
Originals: TypeAlias = ArrayLike | Callable[[I64], ArrayLike]


class Index:
    """Codes of vectors, with ids, laid out for scanning.

    Parameters
    ----------
    pq : PQ or OPQ
        A trained quantizer. The index copies its codewords (and rotation): later changes to the
        quantizer do not show.

    Notes
    -----
    Every search gives exactly what `DistanceTable.adist` over all codes and a stable sort would
    give: the same ids, ties to the lower id. Memory is at most 1.5 bytes for each byte of codes
    (0.5 with Ks <= 16), and 8 bytes for an id that does not follow the one before it.

    An index may be shared between threads: a search sees the rows that were stored when it began,
    and rows are added all or none.
    """

    def __init__(self, pq: PQ | OPQ) -> None:
        if not isinstance(pq, PQ | OPQ):
            raise PicoPQError(f"pq: got {type(pq).__name__}, want a PQ or an OPQ")
        self._hold(pq._stored())

    def _hold(self, stored: _files.Stored) -> None:
        """Become an index of what a file or a quantizer holds."""
        rotation = stored.rotation
        self._codewords, self._metric = stored.codewords.copy(), stored.metric
        self._rotation = None if rotation is None else rotation.copy()
        self._dim = self._codewords.shape[0] * self._codewords.shape[2]
        self._native = _native.Index(self._codewords, self._metric, self._rotation)
        if stored.codes is not None:
            self._native.add_codes(stored.codes, stored.ids, None)

    @classmethod
    def _of(cls: type[_Self], stored: _files.Stored) -> _Self:
        index = cls.__new__(cls)
        index._hold(stored)
        return index

    def _stored(self) -> _files.Stored:
        m = len(self._codewords)
        blocks = list(self._native.blocks())
        codes = np.concatenate([codes for _, codes in blocks]) if blocks else self.codes[:0]
        ids = np.concatenate([ids for ids, _ in blocks]) if blocks else np.empty(0, np.int64)
        counted = bool((ids == np.arange(len(ids))).all())
        return _files.Stored(
            self._metric,
            self._codewords,
            self._rotation,
            codes.reshape(-1, m),
            None if counted else ids,
        )

    def save(self, path: _files.Path) -> None:
        """Write model, codes and ids to a file that `load`, or any safetensors reader, opens.

        All of the file is written, or nothing: what `path` held before stays.
        """
        _files.save(path, "picopq", self._stored())

    @classmethod
    def load(cls: type[_Self], path: _files.Path) -> _Self:
        """The index that `save` wrote; of a model alone, an empty one.

        Raises PicoPQError where the file is damaged or holds something else, OSError.
        """
        return cls._of(_files.load(path, "picopq"))

    @property
    def metric(self) -> Metric:
        """How queries are compared with codes: "l2" or "dot"."""
        return self._metric

    @property
    def pq(self) -> PQ | OPQ:
        """A copy of the quantizer."""
        rotation = None if self._rotation is None else self._rotation.copy()
        stored = _files.Stored(self._metric, self._codewords.copy(), rotation)
        return PQ._of(stored) if rotation is None else OPQ._of(stored)

    def add(
        self, vecs: ArrayLike, ids: ArrayLike | None = None, *, progress: Progress = None
    ) -> Index:
        """Encode and store `vecs` (N, D) under `ids` (N,), non-negative and new to the index.

        Without ids: the numbers that follow the highest id there has been, 0 to N - 1 at first.
        """
        rows, own = vectors("vecs", vecs, self._dim, "N D"), _ids(ids)
        with reporting(progress, "add") as report:
            self._native.add(rows, own, report)
        return self

    def add_codes(
        self, codes: ArrayLike, ids: ArrayLike | None = None, *, progress: Progress = None
    ) -> Index:
        """Store `codes` (N, M); otherwise as `add`."""
        m, ks, _ = self._codewords.shape
        checked, own = code_array(codes, m, ks), _ids(ids)
        with reporting(progress, "add") as report:
            self._native.add_codes(checked, own, report)
        return self

    def search(
        self,
        queries: ArrayLike,
        k: int,
        *,
        subset: ArrayLike | None = None,
        rerank: Originals | None = None,
        factor: int = 10,
        progress: Progress = None,
    ) -> tuple[F32, I64]:
        """The k best stored rows for `queries` (D,) or (nq, D).

        Returns distances (float32) and ids (int64), both (k,) or (nq, k), best first: the smallest
        distance for "l2", the largest product for "dot", ties to the lower id. Where there are
        fewer than k rows to answer with, the rest has the id -1 and an infinite distance.

        Parameters
        ----------
        subset : integers or booleans, optional
            Answer with these ids only (those not stored are passed over), or with the rows that
            are True in a mask (N,) over `ids`.
        rerank : array (rows, D) or callable, optional
            Original vectors: an array in which an id is a row number, or a function of ids (n,)
            that returns their vectors (n, D). The best k * factor are compared by exact distance.
        """
        if subset is None and rerank is None and progress is None:
            # What needs no conversion takes one call: a single query would feel the steps below.
            found = self._native.search_as_is(queries, k)
            if found is not None:
                return found
        k = integer("k", k, 0)
        rows = self._queries(queries)
        # More candidates than are stored would only be padding.
        wanted = k if rerank is None else min(k * integer("factor", factor, 1), len(self))
        chosen = None if subset is None else subset_array(subset)
        with reporting(progress, "search") as report:
            dists, ids = self._native.search(rows, min(wanted, sys.maxsize), chosen, report)
        return (dists, ids) if rerank is None else self._rerank(rows, ids, k, rerank)

    def _queries(self, queries: ArrayLike) -> F32:
        # Spares a single query most of the checks.
        if isinstance(queries, np.ndarray) and _native.is_dense(queries, self._dim):
            return queries
        return vectors("queries", queries, self._dim, "D", "nq D")

    def _rerank(self, queries: F32, candidates: I64, k: int, rerank: Originals) -> tuple[F32, I64]:
        originals = _fetcher(rerank)
        batch, each = np.atleast_2d(queries, candidates)
        dists, ids = np.empty((len(batch), k), np.float32), np.empty((len(batch), k), np.int64)
        for query, found, dist, best in zip(batch, each, dists, ids, strict=True):
            known = found[found >= 0]
            vecs = vectors("rerank", originals(known), self._dim, "n D")
            if len(vecs) != len(known):
                raise PicoPQError(f"rerank: got {len(vecs)} vectors for {len(known)} ids")
            dist[:], best[:] = _native.rerank(query, vecs, known, self._metric, k)
        return (dists, ids) if queries.ndim == 2 else (dists[0], ids[0])

    def range_search(
        self,
        queries: ArrayLike,
        radius: float,
        *,
        subset: ArrayLike | None = None,
        progress: Progress = None,
    ) -> tuple[I64, F32, I64]:
        """Every stored row within `radius` of `queries` (D,) or (nq, D).

        Within: squared distances of at most `radius` for "l2", products of at least `radius` for
        "dot". Returns limits (nq + 1,), distances and ids: the answers of query i, best first, are
        those from limits[i] to limits[i + 1].
        """
        batch = self._queries(queries).reshape(-1, self._dim)
        number = float(numbers("radius", radius, "", kinds="fiu"))
        chosen = None if subset is None else subset_array(subset)
        with reporting(progress, "range search") as report:
            return self._native.range_search(batch, number, chosen, report)

    def reconstruct(self, ids: ArrayLike) -> F32:
        """The vectors (n, D) that the codes of `ids` (n,) stand for; IndexError for one not stored."""
        return self._native.reconstruct(id_array("ids", ids))

    def remove(self, ids: ArrayLike) -> int:
        """Remove the rows of `ids` (n,) that are stored, and return how many there were."""
        return self._native.remove(id_array("ids", ids))

    def __len__(self) -> int:
        return len(self._native)

    @property
    def ids(self) -> I64:
        """The ids (N,) in the order in which the rows were added; a copy."""
        return self._native.ids()

    @property
    def codes(self) -> Codes:
        """The codes (N, M) in the order of `ids`; a copy."""
        return self._native.codes()

    @property
    def nbytes(self) -> int:
        """Bytes in memory of what is stored."""
        return self._native.memory()

    def __iter__(self) -> Iterator[tuple[int, Codes]]:
        """Ids and codes (M,), row by row, of what is stored when the iteration begins."""
        for ids, codes in self._native.blocks():
            yield from zip(ids.tolist(), codes, strict=True)

    def __repr__(self) -> str:
        m, ks, ds = self._codewords.shape
        kind = "PQ" if self._rotation is None else "OPQ"
        return f"Index({kind}: M={m}, Ks={ks}, Ds={ds}, metric={self._metric!r}; {len(self)} rows)"

    def __getstate__(self) -> dict[str, Any]:
        return {
            "codewords": self._codewords,
            "rotation": self._rotation,
            "metric": self._metric,
            "blocks": list(self._native.blocks()),
            "next_id": self._native.next_id(),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._hold(_files.Stored(state["metric"], state["codewords"], state["rotation"]))
        for ids, codes in state["blocks"]:
            self._native.add_codes(codes, ids, None)
        self._native.skip_ids(state["next_id"])


def _ids(ids: ArrayLike | None) -> I64 | None:
    return None if ids is None else id_array("ids", ids)


def _fetcher(rerank: Originals) -> Callable[[I64], ArrayLike]:
    """A function of ids that gives the original vectors."""
    if callable(rerank):
        return rerank
    array = numbers("rerank", rerank, "rows D")

    def rows(ids: I64) -> F32:
        if len(ids) and int(ids.max()) >= len(array):
            raise PicoPQError(f"rerank: got {len(array)} rows, want one for id {ids.max()}")
        return float32("rerank", array[ids])

    return rows
