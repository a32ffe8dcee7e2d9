"""Files: picopq's own, Faiss's both ways, and vectors in blocks."""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path

import faiss
import numpy as np
import pytest
from conftest import ROOT, run, synthetic
from safetensors import safe_open
from safetensors.numpy import load_file

import picopq


def index_of(description: str, n: int, metric: int = faiss.METRIC_L2) -> faiss.Index:
    """An index (n, 16) that Faiss trained and filled."""
    vecs = synthetic("clustered", max(n, 600), 16)
    index = faiss.index_factory(16, description, metric)
    index.train(vecs)
    if "IDMap" in description:
        index.add_with_ids(vecs[:n], np.arange(n, dtype=np.int64) ** 2 + 7)
    elif n:
        index.add(vecs[:n])
    return index


METRICS = pytest.mark.parametrize("metric", [faiss.METRIC_L2, faiss.METRIC_INNER_PRODUCT])
DESCRIPTIONS = [f"PQ4x{nbits}np" for nbits in range(1, 10)]
DESCRIPTIONS += ["OPQ4,PQ4x5np", "PQ4x4fs", "PQ8x4fs", "OPQ4,PQ4x4fs", "IDMap,PQ4x6np"]
DESCRIPTIONS += ["IDMap,OPQ4,PQ4x8np", "RR16,PQ4x4np", "PQ1x4fs"]
DESCRIPTIONS += ["IDMap2,PQ4x6np", "IDMap2,OPQ4,PQ4x4fs"]


@METRICS
@pytest.mark.parametrize("description", DESCRIPTIONS)
@pytest.mark.parametrize("n", [1, 45, 600])
def test_faiss_files_both_ways(description: str, n: int, metric: int, tmp_path: Path) -> None:
    index = index_of(description, n, metric)
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    faiss.write_index(index, str(theirs))
    value = picopq.read_faiss(theirs)
    assert isinstance(value, picopq.Index) and len(value) == n
    picopq.write_faiss(
        value, ours, fast_scan="fs" in description, id_map2=description.startswith("IDMap2")
    )
    expected = theirs.read_bytes()
    if description.startswith("RR"):
        expected = expected.replace(b"rrot", b"LTra")
    assert ours.read_bytes() == expected

    back, queries = faiss.read_index(str(ours)), synthetic("clustered", 30, 16, seed=1)
    # Faiss cannot search fewer than eight codewords.
    if "x1np" not in description and "x2np" not in description:
        for mine, wanted in zip(back.search(queries, 5), index.search(queries, 5), strict=True):
            assert np.array_equal(mine, wanted)
    mapped = description.startswith("IDMap")
    inner = faiss.downcast_index(index.index) if mapped else index
    decoded = inner.reconstruct_n(0, n)
    np.testing.assert_allclose(value.reconstruct(value.ids), decoded, atol=1e-4)
    assert np.array_equal(value.ids, np.arange(n) ** 2 + 7 if mapped else np.arange(n))


def test_an_index_without_ids_of_its_own_in_an_id_map(pq: picopq.PQ, tmp_path: Path) -> None:
    index = picopq.Index(pq)
    index.add(synthetic("clustered", 50, pq.codewords.shape[0] * pq.codewords.shape[2]))
    picopq.write_faiss(index, tmp_path / "ours", id_map2=True)
    back = faiss.read_index(str(tmp_path / "ours"))
    assert isinstance(back, faiss.IndexIDMap2) and back.ntotal == 50
    assert np.array_equal(faiss.vector_to_array(back.id_map), np.arange(50))
    with pytest.raises(picopq.PicoPQError, match="id_map2: got PQ"):
        picopq.write_faiss(pq, tmp_path / "x", id_map2=True)


@pytest.mark.parametrize("nbits", range(10, 17))
def test_faiss_with_many_bits(nbits: int, tmp_path: Path) -> None:
    pq = picopq.PQ(3, 2**nbits, "dot", verbose=False)
    rng = np.random.default_rng(0)
    pq.codewords, pq.Ds = rng.standard_normal((3, 2**nbits, 1)).astype(np.float32), 1
    index = picopq.nanopq_to_faiss(pq)
    vecs = rng.standard_normal((50, 3)).astype(np.float32)
    index.add(vecs)
    faiss.write_index(index, str(tmp_path / "theirs"))
    value = picopq.read_faiss(tmp_path / "theirs")
    assert isinstance(value, picopq.Index) and value.pq == pq
    assert value.codes.dtype == np.uint16
    assert np.array_equal(value.reconstruct(value.ids), index.reconstruct_n(0, 50))
    picopq.write_faiss(value, tmp_path / "ours")
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_faiss_models(pq: picopq.PQ, opq: picopq.OPQ, tmp_path: Path) -> None:
    for model in (pq, opq):
        picopq.write_faiss(model, tmp_path / "ours")
        faiss.write_index(picopq.nanopq_to_faiss(model), str(tmp_path / "theirs"))
        assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
        assert picopq.read_faiss(tmp_path / "ours") == model
    alone, index = tmp_path / "alone", picopq.nanopq_to_faiss(pq)
    faiss.write_ProductQuantizer(index.pq, str(alone))
    assert picopq.read_faiss(alone) == pq


@pytest.mark.parametrize("ks", [1, 3, 255, 300])
def test_faiss_gets_a_power_of_two(ks: int, tmp_path: Path) -> None:
    pq = picopq.PQ(2, ks, verbose=False)
    pq.codewords, pq.Ds = np.ones((2, ks, 3), np.float32), 3
    with pytest.warns(picopq.PicoPQWarning, match=f"Ks = {ks}"):
        picopq.write_faiss(pq, tmp_path / "ours")
    with pytest.warns(picopq.PicoPQWarning, match=f"Ks = {ks}"):
        index = picopq.nanopq_to_faiss(pq)
    faiss.write_index(index, str(tmp_path / "theirs"))
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_a_chain_of_rotations(tmp_path: Path) -> None:
    index = index_of("RR16,RR16,OPQ4,PQ4x6np", 40)
    faiss.write_index(index, str(tmp_path / "chain"))
    value = picopq.read_faiss(tmp_path / "chain")
    decoded = index.reconstruct_n(0, 40)
    np.testing.assert_allclose(value.reconstruct(value.ids), decoded, atol=1e-4)


@pytest.mark.parametrize(
    ("description", "name"),
    [
        ("Flat", "IndexFlat"),
        ("IVF2,PQ4x4np", "IndexIVFPQ"),
        ("IVF2,PQ4x4fs", "IndexIVFPQFastScan"),
        ("HNSW8", "IndexHNSW"),
        ("SQ8", "IndexScalarQuantizer"),
        ("PCA16,PQ4x4np", "PCAMatrix"),
        ("L2norm,PQ4x4np", "NormalizationTransform"),
        ("Pad20,PQ4x4np", "RemapDimensionsTransform"),
        ("OPQ4_8,PQ4x4np", "16 to 8"),
        ("PQ4x4np,RFlat", "IndexRefineFlat"),
        ("ITQ16,PQ4x4np", "ITQTransform"),
    ],
)
def test_other_types_are_refused_by_name(description: str, name: str, tmp_path: Path) -> None:
    faiss.write_index(index_of(description, 20), str(tmp_path / "index"))
    with pytest.raises(picopq.PicoPQError, match=name):
        picopq.read_faiss(tmp_path / "index")


def test_no_faiss_is_needed(pq: picopq.PQ, tmp_path: Path) -> None:
    picopq.write_faiss(pq, tmp_path / "index")
    code = f"""
import sys
sys.modules["faiss"] = None
import picopq
print(picopq.read_faiss({str(tmp_path / "index")!r}).M)
"""
    assert run("-c", code) == "4\n"


@pytest.mark.parametrize("kind", ["pq", "opq"])
def test_own_files(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    model, path = request.getfixturevalue(kind), tmp_path / "model.safetensors"
    model.save(path)
    back = type(model).load(path)
    assert back == model and type(back) is type(model) and back.losses is None
    assert back.codewords.flags.writeable
    other = picopq.OPQ if kind == "pq" else picopq.PQ
    with pytest.raises(picopq.PicoPQError, match=f"holds an? {kind.upper()}"):
        other.load(path)
    assert os.listdir(tmp_path) == [path.name]


def test_own_files_are_safetensors(opq: picopq.OPQ, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    opq.save(path)
    tensors = load_file(path)
    assert np.array_equal(tensors["codewords"], opq.codewords)
    assert np.array_equal(tensors["rotation"], opq.R)
    with safe_open(path, "np") as file:
        about = file.metadata()
    assert about.items() >= {
        "format": "picopq",
        "version": "1",
        "kind": "opq",
        "metric": "l2",
        "m": "4",
        "ks": "32",
        "ds": "4",
        "scan": "rows",
    }.items()
    for name, tensor in tensors.items():
        assert int(about[f"crc32.{name}"], 16) == zlib.crc32(tensor.tobytes())


def test_wrong_files(pq: picopq.PQ, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with pytest.raises(FileNotFoundError) as missing:
        picopq.PQ.load(path)
    assert missing.value.filename == str(path)
    for call in (picopq.PQ.load, picopq.read_faiss, pq.save):
        with pytest.raises(IsADirectoryError):
            call(tmp_path)
    with pytest.raises(FileNotFoundError):
        pq.save(tmp_path / "none" / "model")
    path.write_bytes(b"")
    for call in (picopq.PQ.load, picopq.read_faiss):
        with pytest.raises(picopq.PicoPQError, match="truncated at byte 0"):
            call(path)
    pq.save(path)
    whole = bytearray(path.read_bytes())
    whole[-1] ^= 1
    path.write_bytes(whole)
    with pytest.raises(picopq.PicoPQError, match="codewords is damaged"):
        picopq.PQ.load(path)
    with pytest.raises(picopq.PicoPQError, match="not trained"):
        picopq.PQ(2, verbose=False).save(path)
    assert path.read_bytes() == whole


def test_a_newer_version_is_named(pq: picopq.PQ, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    pq.save(path)
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"]["version"] = "2"
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])
    with pytest.raises(picopq.PicoPQError, match="version 2 is not supported"):
        picopq.PQ.load(path)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f2", ">f8", "u1", "i1", ">u2", "<i4", ">i8"])
@pytest.mark.parametrize("n", [0, 1, 10, 100])
def test_vectors_in_blocks(n: int, dtype: str, order: str, tmp_path: Path) -> None:
    path = tmp_path / "vecs.npy"
    vecs = np.random.default_rng(0).integers(0, 100, (n, 7)).astype(dtype, order=order)
    np.save(path, vecs)
    blocks = list(picopq.io.blocks(path, rows=9))
    assert [len(block) for block in blocks] == [9] * (n // 9) + ([n % 9] if n % 9 else [])
    if n:
        whole = np.concatenate(blocks)
        assert whole.dtype == np.float32 and np.array_equal(whole, vecs.astype(np.float32))


TABLE = ROOT / "crates" / "picopq" / "tests" / "data" / "table.parquet"


@pytest.mark.parametrize("column", ["fixed_f16", "fixed_i64", "lists"])
def test_columns_of_parquet(column: str, tmp_path: Path) -> None:
    vecs = np.arange(21, dtype=np.float32).reshape(7, 3)
    blocks = list(picopq.io.blocks(TABLE, rows=2, column=column))
    assert [len(block) for block in blocks] == [2, 2, 2, 1]
    assert np.array_equal(np.concatenate(blocks), vecs)
    pq = picopq.PQ(3, 4, verbose=False).fit(vecs)
    for quantizer in [pq, picopq.OPQ(3, 4, verbose=False).fit(vecs)]:
        output = tmp_path / "codes.npy"
        assert quantizer.encode_file(TABLE, output, column=column) == 7
        assert np.array_equal(np.load(output), quantizer.encode(vecs))


def test_wrong_columns_of_parquet(tmp_path: Path) -> None:
    with pytest.raises(picopq.PicoPQError, match="a choice among the columns fixed_f32, "):
        picopq.io.blocks(TABLE)
    with pytest.raises(picopq.PicoPQError, match='row 4 of column "ragged" has 1 numbers, wanted 3'):
        list(picopq.io.blocks(TABLE, column="ragged"))
    np.save(tmp_path / "a.npy", np.ones((3, 2), np.float32))
    with pytest.raises(picopq.PicoPQError, match='column "x" is not supported'):
        picopq.io.blocks(tmp_path / "a.npy", column="x")


def test_blocks_of_what_is_no_array(tmp_path: Path) -> None:
    np.save(tmp_path / "objects.npy", np.array([[1, "a"]], object), allow_pickle=True)
    with pytest.raises(picopq.PicoPQError, match=r"dtype \"\|O\""):
        picopq.io.blocks(tmp_path / "objects.npy")
    with pytest.raises(picopq.PicoPQError, match='extension "csv"'):
        picopq.io.blocks(tmp_path / "a.csv")
    with pytest.raises(FileNotFoundError):
        picopq.io.blocks(tmp_path / "a.fvecs")
