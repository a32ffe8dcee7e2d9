"""How good a search or a quantizer is: exact neighbours, recall, distortion.

    _, truth = picopq.evaluate.ground_truth(base, queries, k=10)
    _, found = pq.search(queries, pq.encode(base), k=10)
    picopq.evaluate.recall_at_k(truth, found, 10)      # the nearest is among the ten found
    picopq.evaluate.k_recall_at_k(truth, found, 10)    # share of the ten nearest that are found
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from . import _native
from ._arrays import F32, I64, METRICS, Metric, choice, float32, integer, numbers, vectors
from ._errors import PicoPQError
from ._progress import Progress, reporting
from .opq import OPQ
from .pq import PQ

__all__ = ["distortion", "ground_truth", "k_recall_at_k", "recall_at_k"]

# Stands in a row of ids where there is no answer.
_MISSING = -1


def ground_truth(
    base: ArrayLike,
    queries: ArrayLike,
    k: int,
    metric: Metric = "l2",
    *,
    progress: Progress = None,
) -> tuple[F32, I64]:
    """The exact k nearest rows of `base` (N, D) to each of `queries` (nq, D).

    Returns distances (float32) and row numbers (int64), both (nq, min(k, N)), best first: the
    smallest squared distance for "l2", the largest product for "dot". Distances are summed in
    float64 and rounded once; ties go to the lower row. On all threads, in blocks: memory grows
    with the answer, not with N, unless `base` has to be converted to float32 in C order.
    """
    k = integer("k", k, 0)
    choice("metric", metric, METRICS)
    wide, narrow = numbers("base", base, "N D"), numbers("queries", queries, "nq D")
    dim = wide.shape[1]
    if dim == 0:
        raise PicoPQError("base has no columns")
    if narrow.shape[1] != dim:
        raise PicoPQError(f"dimension mismatch: base has {dim}, queries has {narrow.shape[1]}")
    rows, batch = float32("base", wide), float32("queries", narrow)
    shape = (len(batch), min(k, len(rows)))
    dists, ids = np.empty(shape, np.float32), np.empty(shape, np.int64)
    with reporting(progress, "ground truth") as report:
        _native.ground_truth(rows, batch, metric, dists, ids, report)
    return dists, ids


def recall_at_k(truth_ids: ArrayLike, found_ids: ArrayLike, k: int) -> float:
    """recall@k [Jegou11]_: the share of queries whose nearest neighbour is among the first k found.

    Parameters
    ----------
    truth_ids : integers (nq, 1 or more)
        True neighbours, nearest first, as from `ground_truth`; the first column is read.
    found_ids : integers (nq, k or more)
        What a search found, best first; -1 stands for no answer and counts as none.
    k : int
        At least 1.

    References
    ----------
    .. [Jegou11] H. Jegou, M. Douze, C. Schmid, "Product Quantization for Nearest Neighbor
       Search", IEEE TPAMI 33(1), 2011, section V-B.
    """
    truth, found = _ids(truth_ids, found_ids, integer("k", k, 1), 1)
    return float(((truth == found) & (truth != _MISSING)).any(axis=1).mean())


def k_recall_at_k(truth_ids: ArrayLike, found_ids: ArrayLike, k: int) -> float:
    """k-recall@k: how many of the k nearest neighbours are among the first k found, over k.

    The mean over the queries; the order within the k does not count, and an id counts once.
    `truth_ids` and `found_ids`, (nq, k or more), are as for `recall_at_k`.
    """
    truth, found = _ids(truth_ids, found_ids, integer("k", k, 1), k)
    hits = (np.setdiff1d(np.intersect1d(*pair), _MISSING) for pair in zip(truth, found))
    return sum(map(len, hits)) / truth.size


def distortion(quantizer: PQ | OPQ, vecs: ArrayLike, *, progress: Progress = None) -> float:
    """The mean squared reconstruction error of a trained PQ or OPQ: |x - decode(encode(x))|^2.

    The mean over the rows of `vecs` (N, D), N > 0, summed in float64, in blocks: neither codes
    nor decoded vectors are held, and the number of threads does not change the result.
    """
    pq: object = quantizer.pq if isinstance(quantizer, OPQ) else quantizer
    if not isinstance(pq, PQ):
        raise PicoPQError(f"quantizer: got {type(pq).__name__}, want a PQ or an OPQ")
    rotation = quantizer._rotation() if isinstance(quantizer, OPQ) else None
    codewords, dim = pq._trained()
    rows = vectors("vecs", vecs, dim, "N D")
    if len(rows) == 0:
        raise PicoPQError("vecs has no rows")
    with reporting(progress, "distortion") as report:
        return _native.distortion(codewords, rows, report, rotation)


def _ids(
    truth_ids: ArrayLike, found_ids: ArrayLike, k: int, truth_columns: int
) -> tuple[I64, I64]:
    """The first columns of both as int64: `truth_columns` of the one, k of the other."""
    truth = numbers("truth_ids", truth_ids, "nq k", kinds="iu")
    found = numbers("found_ids", found_ids, "nq k", kinds="iu")
    if len(truth) != len(found):
        raise PicoPQError(f"found_ids: got {len(found)} rows, truth_ids has {len(truth)}")
    if len(truth) == 0:
        raise PicoPQError("truth_ids has no rows")
    for name, ids, columns in (("truth_ids", truth, truth_columns), ("found_ids", found, k)):
        if ids.shape[1] < columns:
            raise PicoPQError(f"{name}: got {ids.shape[1]} columns, want at least {columns}")
    return truth[:, :truth_columns].astype(np.int64), found[:, :k].astype(np.int64)
