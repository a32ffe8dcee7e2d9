"""What holds for any data: identities, layouts, numbers of threads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import synthetic
from hypothesis import given, settings
from hypothesis import strategies as st

import picopq


@st.composite
def quantizers(draw: st.DrawFn) -> tuple[picopq.PQ, np.ndarray]:
    """A PQ with random codewords, and vectors."""
    m, ks, ds = draw(st.integers(1, 9)), draw(st.integers(1, 300)), draw(st.integers(1, 33))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pq = picopq.PQ(m, ks, draw(st.sampled_from(["l2", "dot"])), verbose=False)
    pq.codewords, pq.Ds = rng.standard_normal((m, ks, ds)).astype(np.float32), ds
    n = draw(st.integers(0, 70))
    return pq, rng.standard_normal((n, m * ds)).astype(np.float32)


@settings(max_examples=150, deadline=None)
@given(quantizers())
def test_identities(sample: tuple[picopq.PQ, np.ndarray]) -> None:
    pq, vecs = sample
    codes = pq.encode(vecs)
    decoded = pq.decode(codes)
    assert codes.shape == (len(vecs), pq.M) and codes.dtype == pq.code_dtype
    assert np.array_equal(pq.encode(decoded), codes)

    query = np.full(vecs.shape[1], 0.5, np.float32)
    table = pq.dtable(query)
    dists = table.adist(codes)
    products = decoded.astype(np.float64) * query
    squares = (decoded.astype(np.float64) - query) ** 2
    exact = squares if pq.metric == "l2" else products
    np.testing.assert_array_less(
        np.abs(dists - exact.sum(axis=1)), 1e-5 * np.abs(exact).sum(axis=1) + 1e-30
    )

    order = np.argsort(dists if pq.metric == "l2" else -dists, kind="stable")
    for k in (0, 1, 7, len(vecs), len(vecs) + 1):
        for found, ids in (pq.search(query, codes, k), table.topk(codes, k)):
            assert ids.dtype == np.int64 and found.dtype == np.float32
            assert np.array_equal(ids, order[:k]) and np.array_equal(found, dists[ids])


@pytest.mark.parametrize("ds", [1, 2, 3, 7, 8, 16, 33, 96])
@pytest.mark.parametrize("data", ["gaussian", "far from 0", "heavy tails", "uneven axes"])
def test_encode_finds_the_nearest(data: str, ds: int) -> None:
    vecs = synthetic(data, 700, 2 * ds)
    pq = picopq.PQ(2, 100, verbose=False)
    pq.codewords, pq.Ds = np.stack(np.split(vecs[:100], 2, axis=1)), ds
    codes = pq.encode(vecs)
    for m, part in enumerate(np.split(vecs.astype(np.float64), 2, axis=1)):
        squares = ((part[:, None] - pq.codewords[m]) ** 2).sum(axis=2)
        chosen = squares[np.arange(700), codes[:, m]]
        assert np.all(chosen <= squares.min(axis=1) + 1e-6 * squares.mean())


@pytest.mark.parametrize("metric", ["l2", "dot"])
@pytest.mark.parametrize("n", [1, 31, 1000, 70_000])
def test_search_finds_the_best_with_ties_to_the_lower_row(metric: str, n: int) -> None:
    pq = picopq.PQ(3, 4, metric, verbose=False)  # 64 different distances: ties everywhere
    rng = np.random.default_rng(n)
    pq.codewords, pq.Ds = rng.standard_normal((3, 4, 2)).astype(np.float32), 2
    codes = rng.integers(4, size=(n, 3)).astype(np.uint8)
    queries = rng.standard_normal((5, 6)).astype(np.float32)
    dists, ids = pq.search(queries, codes, 40)
    assert dists.shape == ids.shape == (5, min(40, n))
    for query, best, rows in zip(queries, dists, ids, strict=True):
        expected = pq.dtable(query).adist(codes)
        order = np.argsort(expected if metric == "l2" else -expected, kind="stable")[:40]
        assert np.array_equal(rows, order) and np.array_equal(best, expected[order])


def test_search_of_a_batch_is_that_of_its_queries(pq: picopq.PQ, vecs: np.ndarray) -> None:
    codes, queries = pq.encode(vecs), np.tile(vecs, (250, 1))  # 150,000 tables: several blocks
    dists, ids = pq.search(queries, codes[:50], 3)
    first, first_ids = pq.search(vecs, codes[:50], 3)
    assert np.array_equal(dists, np.tile(first, (250, 1)))
    assert np.array_equal(ids, np.tile(first_ids, (250, 1)))


def test_same_bytes_for_any_number_of_threads() -> None:
    vecs = synthetic("clustered", 20_000, 32)
    results = []
    for threads in (1, 2, 7):
        picopq.set_num_threads(threads)
        assert picopq.num_threads() == threads
        pq = picopq.PQ(8, 64, verbose=False).fit(vecs, iter=5)
        opq = picopq.OPQ(8, 64, verbose=False).fit(vecs[:5000], pq_iter=5, rotation_iter=3)
        codes = pq.encode(vecs)
        arrays = (
            pq.codewords,
            pq.losses,
            opq.R,
            opq.codewords,
            opq.eigenvalue_allocation(vecs),
            codes,
            opq.encode(vecs),
            pq.decode(codes),
            opq.decode(codes),
            pq.dtable(vecs[0]).adist(codes),
            *pq.search(vecs[:20], codes, 50),
        )
        results.append([array.tobytes() for array in arrays])
    assert results[0] == results[1] == results[2]


def strided(array: np.ndarray, step: int) -> np.ndarray:
    """`array` as every step-th column and row, counted backwards if step < 0, of another."""
    wide = np.full([abs(step) * size for size in array.shape], 77, array.dtype)
    view = wide[(slice(None, None, step),) * array.ndim]
    view[...] = array
    return view


def unaligned(array: np.ndarray) -> np.ndarray:
    data = np.empty(array.nbytes + 1, np.uint8)[1:]
    view = data.view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


def readonly(array: np.ndarray) -> np.ndarray:
    copy = array.copy()
    copy.flags.writeable = False
    return copy


def memory_mapped(array: np.ndarray, folder: Path) -> np.ndarray:
    path = folder / f"{len(list(folder.iterdir()))}.npy"
    np.save(path, array)
    return np.load(path, mmap_mode="r")


LAYOUTS = {
    "F order": np.asfortranarray,
    "strided": lambda array: strided(array, 3),
    "backwards": lambda array: strided(array, -1),
    "transposed": lambda array: np.ascontiguousarray(array.T).T,
    "big endian": lambda array: array.astype(array.dtype.newbyteorder(">")),
    "unaligned": unaligned,
    "read only": readonly,
    "list": lambda array: array.tolist(),
    "subclass": lambda array: np.asarray(array).view(np.recarray),
    "memory map": None,
}
FLOATS = {
    "float16": np.float16,
    "float64": np.float64,
    "long double": np.longdouble,
    "big-endian float64": ">f8",
    "int8": np.int8,
    "int64": np.int64,
    "uint16": np.uint16,
    "big-endian int32": ">i4",
}
INTEGERS = ["i1", "u1", "i2", ">u2", "u4", ">i4", "i8", "u8", ">u8"]


def results(model: object, vecs: object, query: object, codes: object) -> list[np.ndarray]:
    table = model.dtable(query)
    arrays = [table.dtable, model.encode(vecs), model.decode(codes), table.adist(codes)]
    arrays += [*model.search(vecs, codes, 5), *table.topk(codes, 5), picopq.finite_rows(vecs)]
    if isinstance(model, picopq.OPQ):
        trained = picopq.OPQ(4, 8, verbose=False).fit(vecs, pq_iter=2, rotation_iter=2)
        arrays += [model.rotate(vecs), model.rotate(query), trained.R, trained.codewords]
        arrays += [model.eigenvalue_allocation(vecs)]
    else:
        arrays += [picopq.PQ(4, 8, verbose=False).fit(vecs, iter=2).codewords]
    return arrays


def same(ours: list[np.ndarray], expected: list[np.ndarray]) -> None:
    assert [a.dtype for a in ours] == [a.dtype for a in expected]
    assert [a.tobytes() for a in ours] == [a.tobytes() for a in expected]


@pytest.mark.parametrize("kind", ["pq", "opq"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(
    layout: str, kind: str, vecs: np.ndarray, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    model, vecs = request.getfixturevalue(kind), vecs[:40]
    codes = model.encode(vecs)
    change = LAYOUTS[layout] or (lambda array: memory_mapped(array, tmp_path))
    changed = [change(vecs), change(vecs[0]), change(codes)]
    same(results(model, *changed), results(model, vecs, vecs[0], codes))


@pytest.mark.parametrize("kind", ["pq", "opq"])
@pytest.mark.parametrize("dtype", FLOATS)
def test_number_types(
    dtype: str, kind: str, vecs: np.ndarray, request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(kind)
    whole = np.abs(np.rint(vecs[:40]))  # every type holds these numbers
    codes, typed = model.encode(whole), whole.astype(FLOATS[dtype])
    same(results(model, typed, typed[0], codes), results(model, whole, whole[0], codes))


@pytest.mark.parametrize("dtype", INTEGERS)
def test_code_types(dtype: str, pq: picopq.PQ, vecs: np.ndarray) -> None:
    codes = pq.encode(vecs[:40])
    same(
        results(pq, vecs[:40], vecs[0], codes.astype(dtype)),
        results(pq, vecs[:40], vecs[0], codes),
    )


@pytest.mark.parametrize("layout", ["F order", "strided", "list", "unaligned", "big endian"])
def test_layouts_of_assigned_arrays(
    layout: str, opq: picopq.OPQ, vecs: np.ndarray
) -> None:
    codes = opq.encode(vecs[:40])
    expected = results(opq, vecs[:40], vecs[0], codes)
    opq.pq.codewords = LAYOUTS[layout](opq.codewords)
    opq.R = LAYOUTS[layout](opq.R)
    same(results(opq, vecs[:40], vecs[0], codes), expected)


@pytest.mark.parametrize("kind", ["pq", "opq"])
def test_no_rows(kind: str, vecs: np.ndarray, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(kind)
    codes = model.encode(vecs[:0])
    assert codes.shape == (0, 4) and codes.dtype == np.uint8
    decoded = model.decode(codes)
    assert decoded.shape == (0, 16) and decoded.dtype == np.float32
    dists = model.dtable(vecs[0]).adist(codes)
    assert dists.shape == (0,) and dists.dtype == np.float32
    for queries, shape in ((vecs[0], (0,)), (vecs[:3], (3, 0)), (vecs[:0], (0, 0))):
        found, ids = model.search(queries, codes, 5)
        assert found.shape == ids.shape == shape
        assert found.dtype == np.float32 and ids.dtype == np.int64
    assert model.search(vecs[:0], model.encode(vecs), 5)[1].shape == (0, 5)
    assert picopq.finite_rows(vecs[:0]).shape == (0,)


@pytest.mark.parametrize("kind", ["pq", "opq"])
def test_rows_that_are_not_finite_are_dropped_on_request(
    kind: str, vecs: np.ndarray, request: pytest.FixtureRequest
) -> None:
    model, dirty = request.getfixturevalue(kind), vecs.copy()
    dirty[3, 5], dirty[70, 0], dirty[70, 15], dirty[-1, 2] = np.nan, np.inf, np.nan, -np.inf
    kept = np.setdiff1d(np.arange(len(vecs)), [3, 70, len(vecs) - 1])
    assert np.array_equal(picopq.finite_rows(dirty), kept)
    codes, rows = model.encode(dirty, drop_nonfinite=True)
    assert rows.dtype == np.int64 and np.array_equal(rows, kept)
    assert np.array_equal(codes, model.encode(vecs[kept]))
    assert np.array_equal(model.encode(vecs, drop_nonfinite=True)[1], np.arange(len(vecs)))
    fresh = [type(model)(4, 8, verbose=False) for _ in range(2)]
    fresh[0].fit(dirty, drop_nonfinite=True)
    fresh[1].fit(vecs[kept])
    assert fresh[0] == fresh[1]
