"""Quantizers to Faiss and back."""

from __future__ import annotations

import warnings

import faiss
import numpy as np
import pytest
from conftest import run, synthetic

import picopq


def random_pq(m: int, ks: int, ds: int, metric: str = "l2") -> picopq.PQ:
    pq = picopq.PQ(m, ks, metric, verbose=False)
    rng = np.random.default_rng(ks)
    pq.codewords, pq.Ds = rng.standard_normal((m, ks, ds)).astype(np.float32), ds
    return pq


def rotation(dim: int, seed: int = 0) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((dim, dim)))[0]


def trained(description: str, vecs: np.ndarray, metric: int = faiss.METRIC_L2) -> faiss.Index:
    index = faiss.index_factory(vecs.shape[1], description, metric)
    index.train(vecs)
    index.add(vecs)
    return index


@pytest.mark.parametrize("metric", ["l2", "dot"])
@pytest.mark.parametrize("nbits", [*range(1, 13), 16])
def test_pq_there_and_back(nbits: int, metric: str) -> None:
    pq = random_pq(3, 2**nbits, 2, metric)
    vecs = synthetic("gaussian", 500, 6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        index = picopq.nanopq_to_faiss(pq)
    assert type(index) is faiss.IndexPQ and (index.d, index.ntotal) == (6, 0)
    assert (index.pq.M, index.pq.nbits) == (3, nbits)
    assert index.metric_type == {"l2": 1, "dot": 0}[metric]
    index.add(vecs)

    back, codes = picopq.faiss_to_nanopq(index)
    pq.verbose = back.verbose
    assert type(back) is picopq.PQ and back == pq
    assert codes.shape == (500, 3) and codes.dtype == pq.code_dtype
    assert np.array_equal(back.decode(codes), index.reconstruct_n(0, 500))
    assert np.mean(codes == pq.encode(vecs)) > 0.998  # near-ties may differ

    if nbits > 2:  # Faiss itself cannot search fewer than eight codewords of two numbers
        ours, _ = back.search(vecs[:1], codes, 10)
        theirs, _ = index.search(vecs[:1], 10)
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("metric", ["l2", "dot"])
def test_opq_there_and_back(opq: picopq.OPQ, vecs: np.ndarray, metric: str) -> None:
    opq.pq.metric = metric
    index = picopq.nanopq_to_faiss(opq)
    assert type(index) is faiss.IndexPreTransform and index.chain.size() == 1
    assert index.metric_type == {"l2": 1, "dot": 0}[metric]
    index.add(vecs)
    back, codes = picopq.faiss_to_nanopq(index)
    opq.verbose = back.verbose
    assert type(back) is picopq.OPQ and back == opq and back.metric == metric
    assert np.mean(codes == opq.encode(vecs)) > 0.998
    np.testing.assert_allclose(back.decode(codes), index.reconstruct_n(0, len(vecs)), atol=1e-4)
    ours, _ = back.search(vecs[:20], codes, 5)
    np.testing.assert_allclose(ours, index.search(vecs[:20], 5)[0], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("ks", "nbits"), [(1, 1), (3, 2), (255, 8), (300, 9), (1000, 10)])
@pytest.mark.parametrize("metric", ["l2", "dot"])
def test_missing_codewords_never_win(ks: int, nbits: int, metric: str) -> None:
    pq = random_pq(2, ks, 3, metric)
    with pytest.warns(picopq.PicoPQWarning, match=f"Ks = {ks}.*{2**nbits - ks} codewords") as w:
        index = picopq.nanopq_to_faiss(pq)
    assert len(w) == 1 and w[0].filename == __file__
    assert index.pq.nbits == nbits
    vecs = synthetic("gaussian", 2000, 6)
    index.add(vecs * 1000)
    back, codes = picopq.faiss_to_nanopq(index)
    assert back.Ks == 2**nbits and codes.max() < ks
    assert np.array_equal(back.codewords[:, :ks], pq.codewords)
    assert np.mean(codes == pq.encode(vecs * 1000)) > 0.998


def test_empty_index() -> None:
    for nbits, dtype in ((5, np.uint8), (8, np.uint8), (9, np.uint16), (16, np.uint16)):
        _, codes = picopq.faiss_to_nanopq(picopq.nanopq_to_faiss(random_pq(3, 2**nbits, 1)))
        assert codes.shape == (0, 3) and codes.dtype == dtype


def test_results_outlive_the_index(pq: picopq.PQ, vecs: np.ndarray) -> None:
    index = picopq.nanopq_to_faiss(pq)
    index.add(vecs)
    back, codes = picopq.faiss_to_nanopq(index)
    del index
    assert np.array_equal(back.codewords, pq.codewords)
    back.codewords[0] = 0
    assert np.mean(codes == pq.encode(vecs)) > 0.998


def pretransformed(*transforms: faiss.VectorTransform, pq: picopq.PQ) -> faiss.Index:
    index = picopq.nanopq_to_faiss(pq)
    for transform in reversed(transforms):
        index = faiss.IndexPreTransform(transform, index)
    return index


def linear(matrix: np.ndarray) -> faiss.LinearTransform:  # (d_out, d_in)
    transform = faiss.LinearTransform(matrix.shape[1], matrix.shape[0])
    faiss.copy_array_to_vector(matrix.astype(np.float32).ravel(), transform.A)
    transform.is_trained = True
    transform.set_is_orthonormal()
    return transform


def test_chain_of_rotations() -> None:
    pq, vecs = random_pq(2, 16, 4), synthetic("gaussian", 300, 8)
    index = picopq.nanopq_to_faiss(pq)
    chain = faiss.IndexPreTransform(index)
    for seed in (1, 2, 3):
        chain.prepend_transform(linear(rotation(8, seed)))
    chain.add(vecs)
    opq, codes = picopq.faiss_to_nanopq(chain)
    applied = rotation(8, 1) @ rotation(8, 2) @ rotation(8, 3)
    np.testing.assert_allclose(opq.R, applied.T, atol=1e-6)
    assert np.mean(codes == opq.encode(vecs)) > 0.99
    np.testing.assert_allclose(opq.decode(codes), chain.reconstruct_n(0, 300), atol=1e-5)


@pytest.mark.parametrize("description", ["OPQ4,PQ4x5", "RR16,PQ4x6np", "OPQ2_16,PQ2x4"])
def test_indexes_that_faiss_trained(description: str, vecs: np.ndarray) -> None:
    index = trained(description, vecs)
    opq, codes = picopq.faiss_to_nanopq(index)
    assert opq.R.dtype == np.float32 and opq.R.flags.c_contiguous
    assert np.mean(codes == opq.encode(vecs)) > 0.998
    np.testing.assert_allclose(opq.decode(codes), index.reconstruct_n(0, len(vecs)), atol=1e-3)


SHEAR = np.eye(8) + 0.01 * np.eye(8, k=1)

# reason: (index, what the message must name)
REFUSED = {
    "not trained": (lambda v: faiss.IndexPQ(16, 4, 4), "not trained"),
    "no index": (lambda v: "pq", "str"),
    "flat": (lambda v: faiss.IndexFlatL2(16), "IndexFlatL2"),
    "fast scan": (lambda v: trained("PQ4x4fs", v), "IndexPQFastScan"),
    "inverted lists": (lambda v: trained("IVF2,PQ4x4", v), "IndexIVFPQ"),
    "ids": (lambda v: faiss.index_factory(16, "IDMap,PQ4x4"), "IndexIDMap"),
    "rotated inverted lists": (lambda v: trained("OPQ4,IVF2,PQ4x4", v), "IndexIVFPQ"),
    "rotated flat": (lambda v: trained("RR16,Flat", v), "IndexFlat"),
    "L1": (lambda v: faiss_l1(v), "METRIC_L1"),
    "bias": (lambda v: trained("PCA16,PQ4x4", v), "PCAMatrix.*bias"),
    "normalization": (lambda v: trained("L2norm,PQ4x4", v), "NormalizationTransform"),
    "padding": (lambda v: trained("Pad20,PQ4x4", v), "RemapDimensionsTransform"),
    "ITQ": (lambda v: trained("ITQ16,PQ4x4", v), "ITQTransform"),
    "fewer dimensions": (lambda v: trained("OPQ4_8,PQ4x4", v), "16 to 8"),
    "no rotation": (
        lambda v: pretransformed(linear(SHEAR), pq=random_pq(2, 16, 4)),
        "amount to a rotation",
    ),
    "nested": (
        lambda v: pretransformed(
            linear(rotation(8)), linear(rotation(8)), pq=random_pq(2, 16, 4)
        ),
        "IndexPreTransform",
    ),
}


def faiss_l1(vecs: np.ndarray) -> faiss.Index:
    index = faiss.IndexPQ(16, 4, 4, faiss.METRIC_L1)
    index.train(vecs)
    return index


@pytest.mark.parametrize("reason", REFUSED)
def test_what_cannot_be_represented_is_refused_by_name(reason: str, vecs: np.ndarray) -> None:
    make, message = REFUSED[reason]
    index = make(vecs)
    with pytest.raises(picopq.PicoPQError, match=message):
        picopq.faiss_to_nanopq(index)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (picopq.PQ(2, verbose=False), r"call fit\(\) first"),
        (picopq.OPQ(2, verbose=False), r"call fit\(\) first"),
        ("pq", "got str, want PQ or OPQ"),
    ],
)
def test_what_faiss_cannot_hold(model: object, message: str) -> None:
    with pytest.raises(picopq.PicoPQError, match=message):
        picopq.nanopq_to_faiss(model)


def test_too_many_codewords() -> None:
    pq = picopq.PQ(1, 2**24 + 1, verbose=False)
    pq.codewords, pq.Ds = np.zeros((1, 2**24 + 1, 1), np.float32), 1
    with pytest.raises(picopq.PicoPQError, match=r"Ks: got 16777217, .* at most 2\*\*24"):
        picopq.nanopq_to_faiss(pq)


def test_faiss_is_asked_for_when_needed() -> None:
    code = """
import sys
sys.modules["faiss"] = None
import numpy as np, picopq
pq = picopq.PQ(1, 2, verbose=False)
pq.codewords, pq.Ds = np.zeros((1, 2, 2), np.float32), 2
for call in (lambda: picopq.nanopq_to_faiss(pq), lambda: picopq.faiss_to_nanopq(None)):
    try:
        call()
    except ImportError as error:
        print(error)
"""
    lines = run("-c", code).splitlines()
    assert len(lines) == 2 and all("pip install faiss-cpu" in line for line in lines)
    assert run("-c", "import sys, picopq; print('faiss' in sys.modules)") == "False\n"
