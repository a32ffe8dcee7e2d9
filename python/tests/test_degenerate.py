"""Data on which k-means or an eigen-decomposition goes wrong: no crash, no worse error."""

from __future__ import annotations

import warnings

import nanopq
import numpy as np
import pytest
from conftest import error, reference, synthetic

import picopq

RNG = np.random.default_rng(5)


def integers(n: int, dim: int, high: int) -> np.ndarray:
    return np.random.default_rng(6).integers(high, size=(n, dim)).astype(np.float32)


def rank(n: int, dim: int, rank: int) -> np.ndarray:
    rng = np.random.default_rng(7)
    return (rng.standard_normal((n, rank)) @ rng.standard_normal((rank, dim))).astype(np.float32)


# reason, vectors, M, Ks
CASES = [
    ("few integers, as many codewords as values", integers(2000, 4, 64), 4, 64),
    ("few integers, far fewer codewords", integers(2000, 8, 100), 8, 16),
    ("bytes, most sub-vectors repeated", integers(3000, 8, 6), 4, 32),
    ("pairs of bits: fewer distinct sub-vectors than codewords", integers(500, 8, 2), 4, 16),
    ("one row, repeated", np.ones((300, 8), np.float32) * 3, 4, 16),
    ("all zero", np.zeros((300, 8), np.float32), 4, 16),
    ("two rows, repeated", np.repeat(rank(2, 8, 2), 200, axis=0), 4, 16),
    ("half of the rows repeated", np.repeat(synthetic("gaussian", 300, 8), 2, axis=0), 4, 64),
    ("a constant column", np.insert(synthetic("gaussian", 500, 7), 3, 1, axis=1), 4, 16),
    ("rank 3 of 16", rank(1000, 16, 3), 4, 16),
    ("rank 1", rank(1000, 16, 1), 4, 16),
    ("fewer rows than columns", synthetic("gaussian", 40, 64), 8, 16),
    ("far fewer rows than columns", synthetic("correlated", 20, 256), 4, 8),
    ("every column twice", np.repeat(synthetic("gaussian", 1000, 8), 2, axis=1), 4, 16),
    ("tiny numbers", synthetic("gaussian", 500, 8) * np.float32(1e-15), 4, 16),
    ("large numbers", synthetic("gaussian", 500, 8) * np.float32(1e15), 4, 16),
    ("outliers", np.where(np.arange(500)[:, None] % 100, 1, 1e6) * rank(500, 8, 8), 4, 16),
    ("one codeword", synthetic("gaussian", 100, 8), 4, 1),
    ("one codeword fewer than rows", synthetic("gaussian", 65, 8), 4, 64),
]
named = pytest.mark.parametrize("case", CASES, ids=[case[0] for case in CASES])


def unfillable(vecs: np.ndarray, m: int, ks: int) -> int:
    """Clusters that must stay empty as a sub-space has too few distinct sub-vectors."""
    parts = np.split(vecs, m, axis=1)
    return sum(max(0, ks - len(np.unique(part, axis=0))) for part in parts)


def fitted(model: object, *args: object, **kwargs: object) -> int:
    """Fit; the number of empty clusters it warned of. It must warn of nothing else."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(*args, **kwargs)
    assert [type(w.message) for w in caught] in ([], [picopq.PicoPQWarning])
    return int(str(caught[0].message).split()[0]) if caught else 0


@named
@pytest.mark.parametrize("minit", ["points", "++", "random"])
def test_pq(case: tuple, minit: str) -> None:
    _, vecs, m, ks = case
    vecs = vecs.astype(np.float32)
    ours, theirs = picopq.PQ(m, ks, verbose=False), nanopq.PQ(m, ks, verbose=False)
    assert fitted(ours, vecs, minit=minit) == unfillable(vecs, m, ks)
    assert np.isfinite(ours.codewords).all() and np.isfinite(ours.losses).all()
    try:
        reference(theirs, vecs, minit=minit)
    except np.linalg.LinAlgError:
        return  # "random" needs a covariance of full rank there, not here
    size = (vecs.astype(np.float64) ** 2).sum(axis=1).mean()
    assert error(ours, vecs) <= error(theirs, vecs) * 1.001 + 1e-12 * size


@named
@pytest.mark.parametrize("parametric", [False, True], ids=["identity", "parametric"])
def test_opq(case: tuple, parametric: bool) -> None:
    _, vecs, m, ks = case
    vecs = vecs.astype(np.float32)
    ours, theirs = picopq.OPQ(m, ks, verbose=False), nanopq.OPQ(m, ks, verbose=False)
    arguments = {"parametric_init": parametric, "rotation_iter": 4}
    fitted(ours, vecs, **arguments)
    assert ours.R.dtype == np.float32
    assert np.abs(ours.R.T @ ours.R - np.eye(len(ours.R))).max() <= 1e-5
    assert np.isfinite(ours.codewords).all()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs.fit(vecs, **arguments)
        expected = error(theirs, vecs)
    # Rotating rounds each coordinate to float32.
    size = (vecs.astype(np.float64) ** 2).sum(axis=1).mean()
    assert error(ours, vecs) <= expected * (1 + 1e-6) + 1e-12 * size


@named
def test_eigenvalue_allocation_is_a_rotation(case: tuple) -> None:
    _, vecs, m, _ = case
    rotation = picopq.OPQ(m, verbose=False).eigenvalue_allocation(vecs)
    assert rotation.dtype == np.float32
    assert np.abs(rotation.T @ rotation - np.eye(vecs.shape[1])).max() <= 1e-5


def test_eigenvalue_allocation_is_that_of_nanopq() -> None:
    vecs = synthetic("uneven axes", 2000, 16) @ np.linalg.qr(RNG.normal(size=(16, 16)))[0]
    vecs = vecs.astype(np.float32)
    ours = picopq.OPQ(4, verbose=False).eigenvalue_allocation(vecs)
    theirs = nanopq.OPQ(4, verbose=False).eigenvalue_allocation(vecs)
    # The sign of an eigenvector is free.
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs), atol=1e-4)


def test_few_rows_on_request() -> None:
    vecs = synthetic("gaussian", 10, 8)
    pq = picopq.PQ(4, 16, verbose=False)
    assert fitted(pq, vecs, allow_few_rows=True) == 4 * 6
    assert error(pq, vecs) == 0


def test_no_rotation_is_a_plain_pq() -> None:
    vecs = synthetic("correlated", 1000, 8)
    opq = picopq.OPQ(4, 16, verbose=False).fit(vecs, rotation_iter=0)
    pq = picopq.PQ(4, 16, verbose=False).fit(vecs)
    assert np.array_equal(opq.R, np.eye(8)) and opq.pq == pq
