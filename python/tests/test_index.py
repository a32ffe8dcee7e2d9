"""The index: the answers of a plain scan, ids, filters, removal, re-ranking, copies, threads."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import faiss
import numpy as np
import pytest
from conftest import synthetic

import picopq
from picopq import OPQ, PQ, Index, PicoPQError


def trained(kind: str, ks: int, metric: str, vecs: np.ndarray) -> PQ | OPQ:
    if kind == "pq":
        return PQ(4, ks, metric, verbose=False).fit(vecs, iter=3)
    return OPQ(4, ks, metric, verbose=False).fit(vecs, pq_iter=3, rotation_iter=2)


def plain(
    model: PQ | OPQ, codes: np.ndarray, ids: np.ndarray, query: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """A plain scan and a stable sort: ties to the lower id."""
    dists = model.dtable(query).adist(codes)
    keys = dists if model.metric == "l2" else -dists
    order = np.lexsort((ids, keys))[:k]
    return dists[order], ids[order]


@pytest.mark.parametrize("ks", [16, 200])
def test_many_vectors_are_stored_as_their_codes(ks: int) -> None:
    """More than a segment of the index: they are encoded into their places."""
    vecs = np.random.default_rng(2).normal(size=(600_001, 8)).astype(np.float32)
    model = PQ(8, ks, verbose=False).fit(vecs[:2000], iter=2)
    codes, index = model.encode(vecs), Index(model)

    def refuse(done: int, total: int) -> None:
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        index.add(vecs, progress=refuse)
    assert len(index) == 0
    told: list[tuple[int, int]] = []
    index.add(vecs[:7]).add(vecs[7:], progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (599_994, 599_994)
    assert np.array_equal(index.codes, codes) and np.array_equal(index.ids, np.arange(600_001))
    for query in vecs[:3]:
        dists, found = index.search(query, 5)
        wanted = plain(model, codes, index.ids, query, 5)
        assert np.array_equal(dists, wanted[0]) and np.array_equal(found, wanted[1])


@pytest.mark.parametrize("kind", ["pq", "opq"])
@pytest.mark.parametrize("ks", [16, 200, 300])
@pytest.mark.parametrize("metric", ["l2", "dot"])
def test_search_equals_a_plain_scan(kind: str, ks: int, metric: str) -> None:
    vecs = synthetic("clustered", 3000, 16)
    model = trained(kind, ks, metric, vecs)
    codes, ids = model.encode(vecs), np.random.default_rng(1).permutation(9000)[:3000]
    index = Index(model).add(vecs[:1000], ids[:1000]).add_codes(codes[1000:], ids[1000:])
    assert len(index) == 3000 and np.array_equal(index.ids, ids)
    assert np.array_equal(index.codes, codes) and index.codes.dtype == codes.dtype
    mask = np.arange(3000) % 3 == 0
    for k in (1, 10, 3000):
        for chosen, subset in [
            (np.ones(3000, bool), None),
            (mask, mask),
            (mask, ids[mask]),
            (ids < 90, np.arange(90)),
        ]:
            dists, found = index.search(vecs[:12], k, subset=subset)
            assert dists.shape == found.shape == (12, k)
            for query, dist, id in zip(vecs, dists, found, strict=False):
                wanted = plain(model, codes[chosen], ids[chosen], query, k)
                size = len(wanted[0])
                assert np.array_equal(dist[:size], wanted[0])
                assert np.array_equal(id[:size], wanted[1])
                assert (id[size:] == -1).all() and np.isinf(dist[size:]).all()
    one = index.search(vecs[0], 5)
    assert one[0].shape == (5,) and np.array_equal(one[1], index.search(vecs[:1], 5)[1][0])


def test_arguments_may_have_any_form(pq: PQ, vecs: np.ndarray) -> None:
    index = Index(pq).add(vecs[:500])
    dense = np.ascontiguousarray(vecs[500:510], np.float32)
    wanted = index.search(dense, 3)
    read_only = dense.copy()
    read_only.flags.writeable = False
    wide = np.zeros((10, 32), np.float32)
    wide[:, ::2] = dense
    forms = [read_only, dense.tolist(), dense.astype(np.float64), np.asfortranarray(dense)]
    for queries in [*forms, wide[:, ::2], dense[::-1].copy()[::-1], dense.astype(">f4")]:
        for k in (3, np.int64(3), np.uint8(3)):
            found = index.search(queries, k)
            assert found[0].dtype == np.float32 and found[1].dtype == np.int64
            assert all(np.array_equal(a, b) for a, b in zip(found, wanted, strict=True))
        one = index.search(queries[0], 3, progress=False)
        assert all(np.array_equal(a, b[0]) for a, b in zip(one, wanted, strict=True))
    for rerank, progress in [(None, None), (vecs, None), (None, lambda done, total: None)]:
        for queries, shape in [(dense, (10,)), (dense[0], ()), (dense[:0], (0,))]:
            found = index.search(queries, 0, rerank=rerank, progress=progress)
            assert [array.shape for array in found] == [(*shape, 0)] * 2
    for k, message in [(2.5, "want an integer"), ("3", "want an integer"), (-1, "want >= 0")]:
        with pytest.raises(PicoPQError, match=message):
            index.search(dense[0], k)
    with pytest.raises(MemoryError):
        index.search(dense, 10**30)
    with pytest.raises(PicoPQError, match="queries has 1 value"):
        index.search(np.where(np.arange(16) == 3, np.inf, dense[0]).astype(np.float32), 1)


@pytest.mark.parametrize("metric", ["l2", "dot"])
def test_range_search(metric: str) -> None:
    vecs = synthetic("clustered", 2000, 16)
    model = trained("pq", 32, metric, vecs)
    index = Index(model).add(vecs)
    radius = float(index.search(vecs[3], 50)[0][-1])
    limits, dists, ids = index.range_search(vecs[:5], radius)
    assert limits.shape == (6,) and limits[0] == 0 and limits[-1] == len(dists) == len(ids)
    for query in range(5):
        wanted = plain(model, index.codes, index.ids, vecs[query], 2000)
        within = wanted[0] <= radius if metric == "l2" else wanted[0] >= radius
        part = slice(limits[query], limits[query + 1])
        assert np.array_equal(dists[part], wanted[0][within])
        assert np.array_equal(ids[part], wanted[1][within])


def test_search_equals_faiss(pq: PQ, vecs: np.ndarray) -> None:
    reference = picopq.nanopq_to_faiss(pq)
    reference.add(vecs)
    dists, ids = Index(pq).add(vecs).search(vecs[:20], 10)
    wanted, their_ids = reference.search(vecs[:20], 10)
    np.testing.assert_allclose(dists, wanted, rtol=1e-4, atol=1e-4)
    same = ids == their_ids
    # Where distances tie, Faiss may choose another.
    ties = np.isclose(dists, np.take_along_axis(wanted, np.arange(10)[None], 1), rtol=1e-4)
    assert (same | ties).all() and same.mean() > 0.9


def test_rows_are_removed_and_reconstructed(pq: PQ, vecs: np.ndarray) -> None:
    index = Index(pq).add(vecs)
    restored = pq.decode(pq.encode(vecs))
    assert np.array_equal(index.reconstruct([5, 0, 5]), restored[[5, 0, 5]])
    assert index.remove([7, 3, 10**12]) == 2
    left = np.delete(np.arange(len(vecs)), [3, 7])
    assert np.array_equal(index.ids, left) and len(index) == len(left)
    assert not np.isin(index.search(vecs[[3, 7]], 5)[1], [3, 7]).any()
    with pytest.raises(IndexError, match="id 7 is not in the index"):
        index.reconstruct([8, 7])
    assert [id for id, _ in index] == left.tolist()
    assert np.array_equal(np.array([code for _, code in index]), index.codes)
    index.add(vecs[:1])
    assert index.ids[-1] == len(vecs)


def test_rerank_orders_by_exact_distance(vecs: np.ndarray) -> None:
    for metric in ("l2", "dot"):
        pq = PQ(4, 16, metric, verbose=False).fit(vecs, iter=2)
        index = Index(pq).add(vecs)
        exact = ((vecs[:6, None] - vecs[None]) ** 2).sum(2)
        keys = exact if metric == "l2" else -(vecs[:6] @ vecs.T)
        candidates = index.search(vecs[:6], 50)[1]
        asked: list[int] = []

        def fetch(ids: np.ndarray, asked: list[int] = asked) -> np.ndarray:
            asked.append(len(ids))
            return vecs[ids]

        for rerank in (vecs, fetch):
            dists, ids = index.search(vecs[:6], 5, rerank=rerank, factor=10)
            for query in range(6):
                row = candidates[query]
                order = row[np.lexsort((row, keys[query, row]))][:5]
                assert np.array_equal(ids[query], order)
                wanted = keys[query, order] * (1 if metric == "l2" else -1)
                np.testing.assert_allclose(dists[query], wanted, rtol=1e-4, atol=1e-4)
        assert asked == [50] * 6
    few = index.search(vecs[:2], 900, rerank=vecs, subset=[4, 9])
    assert (few[1] >= 0).sum() == 4 and (few[1][:, 2:] == -1).all()


def test_copies_are_whole(pq: PQ, opq: OPQ, vecs: np.ndarray, tmp_path: Path) -> None:
    for model in (pq, opq):
        index = Index(model).add(vecs, np.arange(len(vecs)) * 3)
        index.remove([(len(vecs) - 1) * 3])
        index.save(tmp_path / "index")
        copies = [pickle.loads(pickle.dumps(index)), copy.deepcopy(index)]
        copies.append(Index.load(tmp_path / "index"))
        for other in copies:
            assert other.pq == model and repr(other) == repr(index)
            assert np.array_equal(other.ids, index.ids)
            assert np.array_equal(other.codes, index.codes)
            for mine, theirs in zip(other.search(vecs, 3), index.search(vecs, 3), strict=True):
                assert np.array_equal(mine, theirs)
        assert copies[0].add(vecs[:1]).ids[-1] == len(vecs) * 3 - 2
        # The model is the index's own.
        model.codewords[:] = 0
        assert np.array_equal(copies[0].search(vecs[:3], 3)[1], index.search(vecs[:3], 3)[1])


def test_an_empty_index(pq: PQ, vecs: np.ndarray, tmp_path: Path) -> None:
    index = Index(pq)
    assert len(index) == 0 and index.codes.shape == (0, pq.M) and list(index) == []
    dists, ids = index.search(vecs[:2], 3)
    assert (ids == -1).all() and np.isposinf(dists).all()
    assert index.search(vecs[:0], 3)[0].shape == (0, 3) and index.search(vecs[0], 0)[1].shape == (0,)
    assert index.remove([1]) == 0
    index.save(tmp_path / "index")
    assert len(Index.load(tmp_path / "index").add(vecs[:0])) == 0


def test_memory_is_bounded() -> None:
    rng = np.random.default_rng(0)
    for m, ks, most in ((8, 256, 1.6), (32, 256, 1.6), (16, 16, 0.6)):
        pq = PQ(m, ks, verbose=False)
        pq.codewords, pq.Ds = rng.standard_normal((m, ks, 2)).astype(np.float32), 2
        codes = rng.integers(0, ks, (200_000, m), dtype=np.uint8)
        index = Index(pq).add_codes(codes)
        assert index.nbytes <= most * codes.nbytes + 2**20


def test_readers_and_a_writer(vecs: np.ndarray) -> None:
    """Searches go on while rows are added, and see whole additions."""
    pq = PQ(4, 16, verbose=False).fit(vecs, iter=1)
    index = Index(pq).add(vecs)

    def search(_: int) -> bool:
        limits, _, ids = index.range_search(vecs[:1], 1e30)
        return limits[-1] % len(vecs) == 0 and len(set(ids.tolist())) == len(ids)

    with ThreadPoolExecutor(8) as pool:
        writes = pool.map(lambda _: index.add(vecs), range(20))
        assert all(pool.map(search, range(100)))
        list(writes)
    assert len(index) == 21 * len(vecs)
    assert np.array_equal(np.sort(index.ids), np.arange(21 * len(vecs)))


def test_threads_do_not_change_the_answer() -> None:
    rng = np.random.default_rng(0)
    pq = PQ(8, 256, verbose=False)
    pq.codewords, pq.Ds = rng.standard_normal((8, 256, 2)).astype(np.float32), 2
    index = Index(pq).add_codes(rng.integers(0, 256, (300_000, 8), dtype=np.uint8))
    queries = rng.standard_normal((40, 16)).astype(np.float32)
    answers = []
    for threads in (1, 2, 7):
        picopq.set_num_threads(threads)
        answers.append([index.search(queries, 10), index.search(queries[3], 100)])
    picopq.set_num_threads(0)
    for other in answers[1:]:
        for mine, first in zip(other, answers[0], strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(mine, first, strict=True))


BAD = {
    "not a quantizer": (lambda i, v: Index(v), "pq: got ndarray, want a PQ or an OPQ"),
    "not trained": (lambda i, v: Index(PQ(4, verbose=False)), "not trained"),
    "narrow vectors": (lambda i, v: i.add(v[:, :8]), "model has 16, vecs has 8"),
    "NaN": (lambda i, v: i.add(v * np.nan), "NaN or infinite"),
    "ids too few": (lambda i, v: i.add(v, [1]), "ids has 1 elements"),
    "ids of floats": (lambda i, v: i.add(v[:1], [0.5]), "ids: got dtype float64"),
    "an id twice": (lambda i, v: i.add(v[:2], [10**6, 10**6]), "id 1000000 is in the index already"),
    "an id again": (lambda i, v: i.add(v[:1], [0]), "id 0 is in the index already"),
    "a negative id": (lambda i, v: i.add(v[:1], [-1]), "id -1 is negative"),
    "an id beyond int64": (lambda i, v: i.remove(np.array([2**63], np.uint64)), "at most 2"),
    "narrow codes": (lambda i, v: i.add_codes(np.zeros((1, 3), int)), "want M = 4"),
    "wide queries": (lambda i, v: i.search(np.zeros((1, 17)), 1), "model has 16, queries has 17"),
    "infinite query": (lambda i, v: i.search(np.full(16, np.inf), 1), "NaN or infinite"),
    "negative k": (lambda i, v: i.search(v, -1), "k: got -1, want >= 0"),
    "short mask": (lambda i, v: i.search(v, 1, subset=[True]), "subset has 1 elements"),
    "subset of floats": (lambda i, v: i.search(v, 1, subset=[0.5]), "subset: got dtype float64"),
    "NaN radius": (lambda i, v: i.range_search(v, np.nan), "radius has 1 value"),
    "no radius": (lambda i, v: i.range_search(v, None), "radius: got dtype object"),
    "factor is 0": (lambda i, v: i.search(v, 1, rerank=v, factor=0), "factor: got 0, want >= 1"),
    "short originals": (lambda i, v: i.search(v, 9, rerank=v[:1]), "rerank: got 1 rows"),
    "too few fetched": (lambda i, v: i.search(v, 9, rerank=lambda ids: v[:1]), "got 1 vectors"),
    "narrow originals": (lambda i, v: i.search(v, 1, rerank=v[:, :3]), "rerank has 3"),
}


@pytest.mark.parametrize("reason", BAD)
def test_bad_input_is_refused_and_changes_nothing(reason: str, pq: PQ, vecs: np.ndarray) -> None:
    call, message = BAD[reason]
    index = Index(pq).add(vecs[:50])
    before = index.codes, index.ids
    with pytest.raises(PicoPQError, match=message):
        call(index, vecs)
    assert np.array_equal(index.codes, before[0]) and np.array_equal(index.ids, before[1])


def test_a_code_out_of_range_is_named(pq: PQ) -> None:
    codes = np.zeros((3, pq.M), np.uint8)
    codes[2, 1] = pq.Ks
    with pytest.raises(IndexError, match=f"code {pq.Ks} at row 2, sub-space 1"):
        Index(pq).add_codes(codes)


def test_faiss_ids_that_an_index_cannot_hold(pq: PQ, vecs: np.ndarray, tmp_path: Path) -> None:
    index = faiss.IndexIDMap(picopq.nanopq_to_faiss(pq))
    index.add_with_ids(vecs[:2], np.array([-4, 4]))
    faiss.write_index(index, str(tmp_path / "negative"))
    with pytest.raises(PicoPQError, match="id -4 is negative"):
        picopq.read_faiss(tmp_path / "negative")
