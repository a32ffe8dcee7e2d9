"""`picopq.evaluate` against plain numpy and by-hand examples."""

from __future__ import annotations

import faiss
import numpy as np
import pytest
from conftest import error, synthetic

import picopq
from picopq.evaluate import distortion, ground_truth, k_recall_at_k, recall_at_k

KINDS = ["gaussian", "clustered", "far from 0", "heavy tails", "uneven axes"]


def plain(
    base: np.ndarray, queries: np.ndarray, k: int, metric: str
) -> tuple[np.ndarray, np.ndarray]:
    """All distances in float64, rounded to float32, sorted stably."""
    x, y = queries.astype(np.float64)[:, None], base.astype(np.float64)[None]
    keys = (((x - y) ** 2).sum(2) if metric == "l2" else -(x * y).sum(2)).astype(np.float32)
    ids = np.argsort(keys, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(keys if metric == "l2" else -keys, ids, axis=1), ids


@pytest.mark.parametrize("metric", ["l2", "dot"])
@pytest.mark.parametrize("kind", KINDS)
def test_ground_truth_is_that_of_a_plain_search(kind: str, metric: str) -> None:
    vecs = synthetic(kind, 3150, 24)
    base, queries = vecs[:3000], vecs[3000:]
    for k in (0, 1, 10, 3000, 4000):
        dists, ids = ground_truth(base, queries[: 150 if k < 100 else 3], k, metric)
        expected, rows = plain(base, queries[: len(ids)], k, metric)
        assert (dists.dtype, ids.dtype) == (np.float32, np.int64)
        np.testing.assert_array_equal(ids, rows)
        np.testing.assert_array_equal(dists, expected)


@pytest.mark.parametrize("metric", ["l2", "dot"])
def test_ties_go_to_the_lower_row(metric: str) -> None:
    vecs = np.random.default_rng(0).integers(0, 3, (5000, 4)).astype(np.float32)
    dists, ids = ground_truth(vecs, vecs[:200], 50, metric)
    expected, rows = plain(vecs, vecs[:200], 50, metric)
    np.testing.assert_array_equal(ids, rows)
    np.testing.assert_array_equal(dists, expected)


def test_ground_truth_of_sentence_embeddings_is_that_of_faiss() -> None:
    vecs = synthetic("definitions", 10_000, 384)
    index = faiss.IndexFlatL2(384)
    index.add(vecs[:9900])
    expected, rows = index.search(vecs[9900:], 10)
    dists, ids = ground_truth(vecs[:9900], vecs[9900:], 10)
    # Faiss's distances are off by some units of float32 of |x|^2 = 1.
    np.testing.assert_allclose(dists, expected, rtol=0, atol=1e-5)
    assert k_recall_at_k(rows, ids, 10) > 0.999


def test_threads_and_layouts_do_not_change_a_byte(pq: picopq.PQ) -> None:
    vecs = synthetic("clustered", 9000, 16)

    def results(vecs: np.ndarray) -> list[object]:
        return [*ground_truth(vecs, vecs[:300], 7), distortion(pq, vecs)]

    picopq.set_num_threads(1)
    single = results(vecs)
    picopq.set_num_threads(3)
    for same in (vecs, np.asfortranarray(vecs), vecs.astype(np.float64), vecs.astype(">f4")):
        for one, other in zip(single, results(same)):
            np.testing.assert_array_equal(one, other)


def test_recall_at_k_asks_for_the_nearest_alone() -> None:
    truth = [[1, 2], [3, 4], [5, 6], [7, 8]]
    found = [[2, 1, 0], [3, 0, 4], [0, 6, 9], [-1, -1, -1]]
    assert [recall_at_k(truth, found, k) for k in (1, 2, 3)] == [0.25, 0.5, 0.5]


def test_k_recall_at_k_counts_the_overlap() -> None:
    truth = [[1, 2, 9], [3, 4, 9], [5, 6, 9], [7, 8, 9]]
    found = [[2, 1, 0], [3, 0, 4], [0, 5, 6], [8, 8, 7]]
    assert [k_recall_at_k(truth, found, k) for k in (1, 2)] == [0.25, (2 + 1 + 1 + 1) / 8]


def test_missing_ids_are_not_found() -> None:
    nobody = np.full((2, 3), -1)
    assert recall_at_k(nobody, nobody, 3) == 0
    assert k_recall_at_k(nobody, nobody, 3) == 0
    assert k_recall_at_k([[4, -1]], [[-1, 4]], 2) == 0.5


def test_ids_of_any_integer_type_are_compared_as_integers() -> None:
    # As float64, which numpy takes for int64 beside uint64, both would be 2**53.
    truth, found = np.array([[2**53]], np.uint64), np.array([[2**53 + 1]], np.int64)
    assert recall_at_k(truth, found, 1) == k_recall_at_k(truth, found, 1) == 0
    assert recall_at_k(truth, truth.astype(">i8"), 1) == 1


def test_the_own_rows_are_found() -> None:
    vecs = synthetic("gaussian", 500, 8)
    dists, ids = ground_truth(vecs, vecs, 5)
    np.testing.assert_array_equal(ids[:, 0], np.arange(500))
    assert not dists[:, 0].any()
    assert recall_at_k(ids, ids, 1) == k_recall_at_k(ids, ids, 5) == 1


@pytest.mark.parametrize("name", ["pq", "opq"])
def test_distortion_is_the_mean_of_encode_and_decode(
    name: str, request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(name)
    vecs = synthetic("clustered", 10_000, 16, seed=1)
    assert distortion(model, vecs) == pytest.approx(error(model, vecs), rel=1e-12)
