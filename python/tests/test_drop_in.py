"""The same results as nanopq 0.2.2, run side by side."""

from __future__ import annotations

import nanopq
import numpy as np
import pytest
from conftest import error, like, reference, synthetic

import picopq

# reason, data, N, M, Ks, Ds
SHAPES = [
    ("sentence embeddings, one byte a code", "definitions", 10_000, 16, 256, 24),
    ("many short sub-vectors", "definitions", 3_000, 48, 256, 8),
    ("long sub-vectors", "definitions", 1_000, 4, 256, 96),
    ("one sub-space", "definitions", 1_000, 1, 256, 384),
    ("fewer codewords than any vector width", "gaussian", 1_000, 4, 3, 5),
    ("two-byte codes", "gaussian", 1_000, 4, 300, 4),
    ("scalar quantizers", "gaussian", 1_000, 16, 16, 1),
    ("one number a vector", "heavy tails", 1_000, 1, 16, 1),
    ("odd sub-vectors", "heavy tails", 1_000, 4, 256, 7),
    ("the mean outweighs the spread", "far from 0", 1_000, 16, 256, 2),
    ("a full register and one more", "clustered", 1_000, 4, 300, 17),
    ("the longest vector width", "correlated", 1_000, 4, 16, 32),
    ("axes of unequal scale", "uneven axes", 1_000, 48, 16, 3),
]
# minit, then as above; only Ks * N small enough for nanopq's quadratic k-means++
TRAININGS = [
    ("points", "the usual training", "definitions", 3_000, 16, 256, 24),
    ("points", "many short sub-vectors", "definitions", 1_000, 48, 16, 8),
    ("points", "one sub-space", "definitions", 1_000, 1, 64, 384),
    ("points", "two-byte codes", "gaussian", 4_000, 4, 300, 4),
    ("points", "few codewords", "clustered", 2_000, 16, 3, 6),
    ("points", "large vectors", "correlated", 2_000, 4, 16, 32),
    ("points", "the mean outweighs the spread", "far from 0", 2_000, 4, 16, 4),
    ("points", "scalar quantizers", "uneven axes", 4_000, 16, 16, 1),
    ("++", "sentence embeddings", "definitions", 1_000, 16, 16, 24),
    ("++", "one byte a code", "gaussian", 2_000, 4, 256, 2),
    ("++", "one sub-space", "clustered", 2_000, 1, 64, 16),
    ("++", "two-byte codes", "heavy tails", 1_500, 1, 300, 3),
    ("++", "few codewords", "correlated", 2_000, 16, 3, 5),
    ("random", "sentence embeddings", "definitions", 2_000, 4, 16, 24),
    ("random", "gaussian data", "gaussian", 4_000, 4, 16, 4),
    ("random", "one sub-space", "correlated", 4_000, 1, 16, 8),
    ("random", "uneven axes", "uneven axes", 4_000, 16, 3, 2),
]
# reason, data, N, M, Ks, Ds
ROTATIONS = [
    ("sentence embeddings", "definitions", 1_000, 16, 32, 24),
    ("nothing to gain", "gaussian", 1_500, 4, 32, 4),
    ("much to gain", "uneven axes", 1_500, 4, 32, 4),
    ("correlated axes", "correlated", 1_500, 2, 64, 6),
    ("one sub-space: only k-means counts", "clustered", 1_500, 1, 32, 8),
    ("scalar quantizers", "correlated", 1_500, 8, 16, 1),
    ("outliers", "heavy tails", 1_500, 4, 16, 2),
]


@pytest.fixture(scope="module", params=SHAPES, ids=lambda case: case[0])
def pair(request: pytest.FixtureRequest) -> tuple:
    """Vectors and both libraries' PQ with the same codewords: rows of other vectors."""
    _, data, n, m, ks, ds = request.param
    vecs = synthetic(data, n, m * ds)
    pq = picopq.PQ(m, ks, verbose=False)
    rows = np.random.default_rng(1).permutation(n)[:ks]
    noise = np.random.default_rng(2).normal(0, 0.1, (ks, m * ds)) * vecs.std(axis=0)
    pq.codewords = np.ascontiguousarray(
        (vecs[rows] + noise).reshape(ks, m, ds).transpose(1, 0, 2), np.float32
    )
    pq.Ds = ds
    return vecs, pq, like(pq)


def test_encode(pair: tuple) -> None:
    vecs, pq, theirs = pair
    ours, expected = pq.encode(vecs), theirs.encode(vecs)
    assert ours.dtype == expected.dtype and ours.shape == expected.shape
    rows, subs = np.nonzero(ours != expected)
    parts = vecs.reshape(len(vecs), pq.M, pq.Ds)[rows, subs].astype(np.float64)
    chosen = ((parts - pq.codewords[subs, ours[rows, subs]]) ** 2).sum(axis=1)
    wanted = ((parts - pq.codewords[subs, expected[rows, subs]]) ** 2).sum(axis=1)
    assert np.all(np.abs(chosen - wanted) <= 1e-6 * np.maximum(chosen, wanted))


def test_decode(pair: tuple) -> None:
    vecs, pq, theirs = pair
    codes = theirs.encode(vecs[:200])
    assert np.array_equal(pq.decode(codes), theirs.decode(codes))


@pytest.mark.parametrize("metric", ["l2", "dot"])
def test_dtable_and_adist(pair: tuple, metric: str) -> None:
    vecs, pq, theirs = pair
    pq.metric = theirs.metric = metric
    codes, query = theirs.encode(vecs[:500]), vecs[-1]
    ours, expected = pq.dtable(query), theirs.dtable(query)
    # Products cancel, so their rounding is relative to the sum of magnitudes.
    sizes = pq.dtable(query).dtable
    if metric == "dot":
        parts = np.abs(query).reshape(pq.M, 1, pq.Ds)
        sizes = (parts * np.abs(pq.codewords)).sum(axis=2)
    assert np.all(np.abs(ours.dtable - expected.dtable) <= 1e-5 * sizes)
    bound = 1e-5 * sizes[range(pq.M), codes].sum(axis=1)
    assert np.all(np.abs(ours.adist(codes) - expected.adist(codes)) <= bound)


@pytest.fixture(scope="module")
def trainings() -> list[tuple]:
    """Every row of TRAININGS with vectors, both models and nanopq's empty clusters."""
    results = []
    for case in TRAININGS:
        minit, _, data, n, m, ks, ds = case
        vecs = synthetic(data, n, m * ds)
        theirs = nanopq.PQ(m, ks, verbose=False)
        empty = reference(theirs, vecs, minit=minit)
        ours = picopq.PQ(m, ks, verbose=False).fit(vecs, minit=minit)
        results.append((case, vecs, ours, theirs, empty))
    return results


def test_same_seed_same_error(trainings: list[tuple]) -> None:
    for case, vecs, ours, theirs, empty in trainings:
        ratio = error(ours, vecs) / error(theirs, vecs)
        assert ratio <= 1.001 if empty else abs(ratio - 1) <= 0.001, (case, ratio, empty)


def test_same_seed_same_codewords(trainings: list[tuple]) -> None:
    shares = {}  # minit: (equal, all)
    for case, _, ours, theirs, empty in trainings:
        if not empty:
            scale = np.linalg.norm(theirs.codewords, axis=2)
            distance = np.linalg.norm(ours.codewords - theirs.codewords, axis=2)
            equal, total = shares.get(case[0], (0, 0))
            shares[case[0]] = equal + np.sum(distance <= 1e-4 * scale), total + scale.size
    assert set(shares) == {"points", "++", "random"}
    equal, total = np.sum(list(shares.values()), axis=0)
    assert equal >= 0.9 * total, shares


@pytest.mark.parametrize("case", ROTATIONS, ids=lambda case: case[0])
@pytest.mark.parametrize("parametric", [False, True], ids=["identity", "parametric"])
def test_opq_is_never_worse(case: tuple, parametric: bool) -> None:
    _, data, n, m, ks, ds = case
    vecs = synthetic(data, n, m * ds)
    for seed in (123, 7):
        arguments = {"parametric_init": parametric, "seed": seed, "rotation_iter": 5}
        theirs = nanopq.OPQ(m, ks, verbose=False)
        reference(theirs, vecs, **arguments)
        ours = picopq.OPQ(m, ks, verbose=False).fit(vecs, **arguments)
        assert error(ours, vecs) <= error(theirs, vecs) * (1 + 1e-6)


@pytest.mark.parametrize("metric", ["l2", "dot"])
def test_opq_calls(vecs: np.ndarray, opq: picopq.OPQ, metric: str) -> None:
    theirs = like(opq, metric)
    opq.pq.metric = metric
    codes = theirs.encode(vecs)
    assert np.mean(opq.encode(vecs) == codes) > 0.999
    close = {"rtol": 1e-5, "atol": 1e-5 * np.abs(vecs).max()}
    np.testing.assert_allclose(opq.rotate(vecs), theirs.rotate(vecs), **close)
    np.testing.assert_allclose(opq.rotate(vecs[3]), theirs.rotate(vecs[3]), **close)
    np.testing.assert_allclose(opq.decode(codes), theirs.decode(codes), **close)
    ours, expected = opq.dtable(vecs[0]), theirs.dtable(vecs[0])
    size = np.abs(expected.dtable).max()
    np.testing.assert_allclose(ours.dtable, expected.dtable, rtol=1e-5, atol=1e-5 * size)
    np.testing.assert_allclose(
        ours.adist(codes), expected.adist(codes), rtol=1e-5, atol=1e-5 * size
    )
