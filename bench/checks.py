"""Is the answer right? Each check recomputes it plainly with numpy and returns a report.

A report holds `wrong`, the number of wrong items, and what else is worth recording:
`error`, the mean squared reconstruction error per vector; `different`, codes that are
another codeword at the same distance up to rounding, or ids at another rank; recall among the
first ten found: `10-recall@10` of the ten nearest vectors, `1-recall@10` of the nearest.
"""

from __future__ import annotations

import numpy as np

import data
from picopq import evaluate

CHECKED = 20_000  # rows of an encode that are judged: the first half and the last half
BLOCK = 10_000
BEST = 100  # codes that a search finds at most
# Two codewords tie when their squared distances differ by less than this share of
# |x|^2 + |c|^2: sixteen units in the last place of the float32 sums the peers compute.
NEAR_TIE = 16 * 2.0**-23
CLOSE = 1e-5  # relative difference of float32 sums of up to 32 terms
ORTHOGONAL = 1e-4  # largest entry of |R R^T - I|


def squares(x: np.ndarray) -> np.ndarray:
    return np.einsum("...i,...i->...", x, x)


def nearest(x: np.ndarray, codewords: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nearest codeword (n,) of each sub-vector (n, Ds), and the squared distance (n,)."""
    ids = np.empty(len(x), dtype=np.int64)
    for start in range(0, len(x), BLOCK):
        part = x[start : start + BLOCK]
        ids[start : start + BLOCK] = (squares(codewords) - 2 * part @ codewords.T).argmin(1)
    return ids, squares(x.astype(np.float64) - codewords[ids])


def encode(inputs, codes):
    half = min(CHECKED, len(codes)) // 2
    rows = np.r_[:half, len(codes) - half : len(codes)]
    subs = np.split(inputs.vecs[rows], inputs.m, axis=1)
    error, different, wrong = 0.0, 0, int(codes.shape != (len(inputs.vecs), inputs.m))
    for m, (x, codewords) in enumerate(zip(subs, inputs.codewords)):
        best, least = nearest(x, codewords)
        chosen = codewords[codes[rows, m]].astype(np.float64)
        distance = squares(x - chosen)
        tie = distance - least <= NEAR_TIE * (squares(x) + squares(chosen))
        different += np.count_nonzero((codes[rows, m] != best) & tie)
        wrong += np.count_nonzero(~tie)
        error += distance.mean()
    return {"wrong": wrong, "different": different, "error": error}


def fit(inputs, model):
    """`model` is (rotation (D, D) or None, codewords (M, Ks, Ds))."""
    rotation, codewords = model
    vecs, wrong = inputs.vecs, 0
    if rotation is not None:
        product = rotation.astype(np.float64) @ rotation.T
        wrong += np.count_nonzero(np.abs(product - np.eye(len(rotation))) > ORTHOGONAL)
        vecs = vecs @ rotation
    subs = np.split(vecs, inputs.m, axis=1)
    error = sum(nearest(x, c)[1].mean() for x, c in zip(subs, codewords))
    wrong += int(codewords.shape != (inputs.m, inputs.ks, inputs.dim // inputs.m))
    return {"wrong": wrong + int(not np.isfinite(error)), "error": error}


fit_default = opq = opq_short = fit


def decode(inputs, vecs):
    columns = [c[inputs.codes[:, m]] for m, c in enumerate(inputs.codewords)]
    return {"wrong": np.count_nonzero(vecs != np.concatenate(columns, axis=1))}


def table(inputs, query):
    """(M, Ks) float64 squared distances."""
    return squares(query.reshape(inputs.m, 1, -1).astype(np.float64) - inputs.codewords)


def dtable(inputs, answer):
    expected = table(inputs, inputs.queries[0])
    return {"wrong": np.count_nonzero(~np.isclose(answer, expected, rtol=CLOSE, atol=0))}


def sums(inputs, query, rows=slice(None)):
    """Float64 distances of the codes of these rows, by default all."""
    columns, codes = table(inputs, query), inputs.codes[rows]
    return sum(columns[m][codes[:, m]] for m in range(inputs.m))


def adist(inputs, answer):
    """`answer` is the distances (n,), or the one best found: (distances, ids), each (1, 1)."""
    expected = sums(inputs, inputs.queries[0])
    if isinstance(answer, tuple):
        (dists,), (ids,) = answer
        return {"wrong": misranked(dists, expected[ids], [expected.min()])}
    return {"wrong": np.count_nonzero(~np.isclose(answer, expected, rtol=CLOSE, atol=0))}


def misranked(dists, actual, best):
    """Wrong ranks: of the distances returned, and of the actual ones of the ids returned."""
    return np.count_nonzero(~np.isclose([dists, actual], best, rtol=CLOSE).all(axis=0))


def nearest_codes(inputs):
    """(QUERIES, BEST) ids of the nearest codes by a plain scan, ties to the lower id."""

    def one(query):
        dists = sums(inputs, query)
        ids = np.flatnonzero(dists <= np.partition(dists, BEST - 1)[BEST - 1])
        return ids[np.argsort(dists[ids], kind="stable")][:BEST]

    name = f"nearest-{inputs.data}-m{inputs.m}-ks{inputs.ks}-{len(inputs.codes)}"
    return data.kept(name, lambda: np.stack([one(query) for query in data.queries()]))


def search(inputs, answer):
    """`answer` is (distances, ids), each (nq, k); distances are None where a peer rounds them,
    and then only recall is judged."""
    dists, ids = answer
    k, n = ids.shape[1], len(inputs.codes)
    wrong = int(ids.shape != (len(inputs.queries), inputs.k))
    wrong += np.count_nonzero((ids < 0) | (ids >= n)) + sum(k - len(np.unique(row)) for row in ids)
    report = {}
    if not wrong and dists is not None:
        best = nearest_codes(inputs)[: len(ids), :k]
        for query, returned, found, wanted in zip(inputs.queries, dists, ids, best):
            wrong += misranked(returned, sums(inputs, query, found), sums(inputs, query, wanted))
        report["different"] = np.count_nonzero(ids != best)
    return recall(inputs, answer) | report | {"wrong": wrong}


def recall(inputs, answer):
    """Recall alone: `answer` is as that of a search."""
    _, ids = answer
    truth = data.truth(inputs.data, len(inputs.codes), len(ids))
    return {
        "wrong": 0,
        "10-recall@10": evaluate.k_recall_at_k(truth, ids, 10),
        "1-recall@10": evaluate.recall_at_k(truth, ids, 10),
    }


index = search


add = encode

def hold(inputs, codes):
    return {"wrong": np.count_nonzero(codes != inputs.codes)}
