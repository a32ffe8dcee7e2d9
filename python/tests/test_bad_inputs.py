"""Bad input to an index and to files: the promised answer to each kind of it.

`test_errors.py` has the same for models, tables and the evaluation.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from conftest import run
from test_errors import put

import picopq
from picopq import Index, PicoPQError, PicoPQWarning

NAN, INF = np.nan, np.inf
N, D, M, KS = 600, 16, 4, 32


class Given(NamedTuple):
    index: Index  # of the 600 vectors, ids 0, 3, 6, ...
    vecs: np.ndarray  # (600, 16)
    codes: np.ndarray  # (600, 4)
    ids: np.ndarray


@pytest.fixture
def given(pq: picopq.PQ, vecs: np.ndarray) -> Given:
    ids = 3 * np.arange(N)
    return Given(Index(pq).add(vecs, ids), vecs, pq.encode(vecs), ids)


# reason: (call, error, what the message must say)
REFUSED: dict[str, tuple[Callable[[Given], object], type[Exception] | tuple[type[Exception], ...], str]] = {
    # NaN or infinity
    "NaN in add": (
        lambda g: g.index.add(put(g.vecs, ((7, 2), NAN), ((9, 1), INF)), g.ids + 1),
        PicoPQError,
        "has 2 value.*row 7, column 2",
    ),
    "NaN in search": (
        lambda g: g.index.search(put(g.vecs, ((7, 2), NAN)), 3),
        PicoPQError,
        "has 1 value.*row 7, column 2",
    ),
    "infinity in range_search": (
        lambda g: g.index.range_search(put(g.vecs, ((0, 15), -INF)), 1.0),
        PicoPQError,
        "has 1 value.*row 0, column 15",
    ),
    "NaN as radius": (lambda g: g.index.range_search(g.vecs, NAN), PicoPQError, "radius"),
    "NaN in rerank": (
        lambda g: g.index.search(g.vecs[0], 3, rerank=np.full((2000, D), NAN)),
        PicoPQError,
        "rerank has .*NaN",
    ),
    # squares that overflow
    "squares overflow in add": (
        lambda g: g.index.add(put(g.vecs, ((7, 2), 1e20)), g.ids + 1),
        PicoPQError,
        "row 7, column 2",
    ),
    "squares overflow in search": (
        lambda g: g.index.search(put(g.vecs, ((7, 2), -1e20)), 3),
        PicoPQError,
        "row 7, column 2",
    ),
    "float64 beyond float32": (
        lambda g: g.index.search(put(g.vecs.astype(float), ((7, 2), 1e39)), 3),
        PicoPQError,
        "too large for float32",
    ),
    # k
    "k below 0": (lambda g: g.index.search(g.vecs, -1), PicoPQError, "k: got -1"),
    "k is no integer": (lambda g: g.index.search(g.vecs, 2.0), PicoPQError, "k: got 2.0"),
    "factor is 0": (
        lambda g: g.index.search(g.vecs, 2, rerank=g.vecs, factor=0),
        PicoPQError,
        "factor: got 0, want >= 1",
    ),
    # shapes and types
    "add of another dimension": (
        lambda g: g.index.add(g.vecs[:, :15]),
        PicoPQError,
        "dimension mismatch: model has 16, vecs has 15",
    ),
    "queries of another dimension": (
        lambda g: g.index.search(g.vecs[:, 1:], 3),
        PicoPQError,
        "dimension mismatch: model has 16, queries has 15",
    ),
    "add of rank 1": (lambda g: g.index.add(g.vecs[0]), PicoPQError, "vecs: got 1 axes"),
    "queries of rank 3": (lambda g: g.index.search(g.vecs[None], 1), PicoPQError, "queries: got 3"),
    "queries of text": (
        lambda g: g.index.search(g.vecs.astype(str), 1),
        PicoPQError,
        "queries: got dtype <U",
    ),
    "vectors of objects": (
        lambda g: g.index.add(g.vecs.astype(object)),
        PicoPQError,
        "vecs: got dtype object",
    ),
    "originals of another dimension": (
        lambda g: g.index.search(g.vecs, 3, rerank=np.ones((2000, 15))),
        PicoPQError,
        "dimension mismatch",
    ),
    "too few originals": (
        lambda g: g.index.search(g.vecs, 3, rerank=g.vecs),
        PicoPQError,
        "rerank: got 600 rows, want one for id",
    ),
    "a fetcher of too few": (
        lambda g: g.index.search(g.vecs, 3, rerank=lambda ids: g.vecs[: len(ids) - 1]),
        PicoPQError,
        "rerank: got 29 vectors for 30 ids",
    ),
    # codes
    "code too large": (
        lambda g: g.index.add_codes(put(g.codes, ((5, 1), KS))),
        IndexError,
        "at row 5, sub-space 1",
    ),
    "code below 0": (
        lambda g: g.index.add_codes(put(g.codes.astype(np.int8), ((5, 1), -1))),
        IndexError,
        "code -1 at row 5, sub-space 1",
    ),
    "codes with other M": (
        lambda g: g.index.add_codes(g.codes[:, :3]),
        PicoPQError,
        "codes: got 3 columns, want M = 4",
    ),
    # ids
    "an id twice": (
        lambda g: g.index.add(g.vecs, put(g.ids + 1, (5, 4))),
        PicoPQError,
        "id 4 is in the index already, or twice",
    ),
    "an id that is stored": (
        lambda g: g.index.add(g.vecs, put(g.ids + 1, (5, 99))),
        PicoPQError,
        "id 99 is in the index already",
    ),
    "a negative id": (
        lambda g: g.index.add(g.vecs, put(g.ids + 1, (5, -7))),
        PicoPQError,
        "id -7 is negative",
    ),
    "an id above 2^63": (
        lambda g: g.index.add(g.vecs, (g.ids + 1).astype("u8") + np.uint64(2**63)),
        PicoPQError,
        r"ids: got \d+, want at most 2\^63 - 1",
    ),
    "ids of float": (
        lambda g: g.index.add(g.vecs, g.ids + 0.5),
        PicoPQError,
        "ids: got dtype float64, want an integer type",
    ),
    "too few ids": (
        lambda g: g.index.add(g.vecs, g.ids[:9] + 1),
        PicoPQError,
        "ids has 9 elements, wanted 600",
    ),
    "reconstruct of an absent id": (lambda g: g.index.reconstruct([3, 4]), IndexError, "id 4 is"),
    "a mask of another length": (
        lambda g: g.index.search(g.vecs, 3, subset=np.ones(N - 1, bool)),
        PicoPQError,
        "subset has 599 elements, wanted 600",
    ),
    "a subset of floats": (
        lambda g: g.index.search(g.vecs, 3, subset=[1.5]),
        PicoPQError,
        "subset: got dtype float64",
    ),
    "progress is a number": (
        lambda g: g.index.search(g.vecs, 3, progress=3),
        PicoPQError,
        "progress: got 3",
    ),
    "an index of no model": (lambda g: Index(g.vecs), PicoPQError, "want a PQ or an OPQ"),
    "an index before fit": (
        lambda g: Index(picopq.PQ(4, verbose=False)),
        PicoPQError,
        "not trained|call fit",
    ),
    # sizes that overflow
    "more answers than memory": (
        lambda g: g.index.search(g.vecs, 2**60),
        MemoryError,
        "bytes for the answers",
    ),
    "more answers than there are numbers": (
        lambda g: g.index.search(g.vecs, 2**70),
        MemoryError,
        "bytes for the answers",
    ),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_refused(reason: str, given: Given) -> None:
    call, error, message = REFUSED[reason]
    before = given.index.ids, given.index.codes
    with pytest.raises(error, match=message):
        call(given)
    assert np.array_equal(given.index.ids, before[0])
    assert np.array_equal(given.index.codes, before[1])


# Every layout of an array gives what its contiguous copy gives.
LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "Fortran order": np.asfortranarray,
    "strided": lambda a: np.repeat(a, 2, axis=0)[::2],
    "columns strided": lambda a: np.repeat(a, 3, axis=1)[:, ::3],
    "negative stride": lambda a: a[::-1].copy()[::-1],
    "negative columns": lambda a: a[:, ::-1].copy()[:, ::-1],
    "read-only": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
    "unaligned": lambda a: np.frombuffer(b"x" + a.tobytes(), a.dtype, offset=1).reshape(a.shape),
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "wider": lambda a: a.astype(np.float64 if a.dtype.kind == "f" else np.int64),
    "lists": lambda a: a.tolist(),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout: str, given: Given) -> None:
    changed = LAYOUTS[layout]
    index = Index(given.index.pq).add(changed(given.vecs), np.asarray(given.ids)[::1])
    assert np.array_equal(index.codes, given.codes)
    index = Index(given.index.pq).add_codes(changed(given.codes), given.ids)
    assert np.array_equal(index.codes, given.codes) and np.array_equal(index.ids, given.ids)
    for got, want in zip(
        index.search(changed(given.vecs[:50]), 7), given.index.search(given.vecs[:50], 7), strict=True
    ):
        assert got.tobytes() == want.tobytes()


def test_nothing_in_nothing_out(given: Given) -> None:
    index, empty = Index(given.index.pq), given.vecs[:0]
    index.add(empty).add_codes(given.codes[:0])
    assert len(index) == 0 and index.ids.dtype == np.int64 and index.codes.shape == (0, M)
    assert index.remove([]) == 0 and index.reconstruct([]).shape == (0, D)
    dists, ids = index.search(given.vecs[:5], 3)
    assert (ids == -1).all() and np.isposinf(dists).all() and dists.dtype == np.float32
    for k in (0, 3):
        dists, ids = given.index.search(empty, k)
        assert dists.shape == ids.shape == (0, k) and ids.dtype == np.int64
    dists, ids = given.index.search(given.vecs, 0)
    assert dists.shape == ids.shape == (N, 0)
    limits, dists, ids = given.index.range_search(given.vecs[:4], -1.0)
    assert limits.tolist() == [0] * 5 and len(dists) == len(ids) == 0


def test_more_than_there_is(given: Given) -> None:
    dists, ids = given.index.search(given.vecs[0], N + 3)
    assert sorted(ids[:N]) == given.ids.tolist() and ids[N:].tolist() == [-1] * 3
    assert np.isfinite(dists[:N]).all() and np.isposinf(dists[N:]).all()
    dists, ids = given.index.search(given.vecs[0], 3, subset=[])
    assert ids.tolist() == [-1] * 3


def test_equal_rows() -> None:
    equal = np.ones((100, 8), np.float32)
    with pytest.warns(PicoPQWarning, match="empty"):
        pq = picopq.PQ(2, 16, verbose=False).fit(equal)
    assert np.isfinite(pq.codewords).all()
    dists, ids = Index(pq).add(equal).search(equal[:1], 5)
    assert ids.tolist() == [[0, 1, 2, 3, 4]] and (dists == 0).all()


# --- files ---


@pytest.mark.parametrize("kind", ["picopq", "faiss"])
def test_every_prefix_of_an_index(kind: str, given: Given, tmp_path: Path) -> None:
    path = tmp_path / "index"
    if kind == "picopq":
        given.index.save(path)
    else:
        picopq.write_faiss(given.index, path)
    load = Index.load if kind == "picopq" else picopq.read_faiss
    whole = path.read_bytes()
    lengths = [*range(0, 300), *range(300, len(whole), 97)]
    for length in lengths:
        path.write_bytes(whole[:length])
        with pytest.raises(PicoPQError, match="truncated at byte|before byte"):
            load(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(PicoPQError, match="more follows"):
        load(path)


def test_paths(given: Given, tmp_path: Path) -> None:
    for call in (Index.load, picopq.read_faiss, picopq.io.blocks):
        path = tmp_path / "absent.npy"
        with pytest.raises(FileNotFoundError) as error:
            call(path)
        assert error.value.filename == str(path)
    (tmp_path / "folder.npy").mkdir()
    for call in (Index.load, picopq.read_faiss, picopq.io.blocks, given.index.save):
        with pytest.raises(IsADirectoryError):
            call(tmp_path / "folder.npy")
    with pytest.raises(FileNotFoundError):
        given.index.save(tmp_path / "none" / "index")
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder.npy"]


def test_no_permission(given: Given, tmp_path: Path) -> None:
    path = tmp_path / "index"
    given.index.save(path)
    program = (
        "import os, sys, picopq\n"
        "if os.getuid() == 0: os.setuid(65534)\n"  # root may read everything
        "for call in (picopq.Index.load, picopq.PQ.load, picopq.read_faiss):\n"
        "    try:\n"
        "        call(sys.argv[1])\n"
        "    except PermissionError as error:\n"
        "        assert error.filename == sys.argv[1]\n"
        "        print('refused')\n"
    )
    path.chmod(0)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    assert run("-c", program, path) == "refused\n" * 3


def test_a_full_disk(given: Given, tmp_path: Path) -> None:
    """A limit on the size of files stands for a disk without space."""
    path = tmp_path / "index"
    path.write_bytes(b"old")
    program = (
        "import resource, signal, sys, numpy as np, picopq\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "vecs = np.random.default_rng(0).standard_normal((600, 16)).astype('f4')\n"
        "index = picopq.Index(picopq.PQ(4, 64, verbose=False).fit(vecs, iter=2)).add(vecs)\n"
        "for save in (index.save, index.pq.save, lambda path: picopq.write_faiss(index, path)):\n"
        "    try:\n"
        "        save(sys.argv[1])\n"
        "    except OSError as error:\n"
        "        print(error.errno, error.filename == sys.argv[1])\n"
    )
    assert run("-c", program, path) == "27 True\n" * 3
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


def test_headers_that_claim_too_much(tmp_path: Path) -> None:
    """numpy asks for 11 GiB; here 1 GiB of address space is more than enough."""
    claims = {
        "a.npy": b"\x93NUMPY\x01\x00\x76\x00"
        + b"{'descr': '<f4', 'fortran_order': False, 'shape': (3000000000, 1), }".ljust(117)
        + b"\n",
        "b.npy": b"\x93NUMPY\x02\x00\xff\xff\xff\x7f{",
        "c.fbin": b"\xff" * 8,
        "d.fvecs": b"\xff\xff\xff\x7f" + bytes(64),
        "e.ibin": (2**31).to_bytes(4, "little") + (1).to_bytes(4, "little"),
    }
    program = (
        "import resource, sys, picopq\n"
        "size = int(open('/proc/self/statm').read().split()[0]) * 4096\n"
        "resource.setrlimit(resource.RLIMIT_AS, (size + 2**28, size + 2**28))\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n"
        "        list(picopq.io.blocks(path))\n"
        "    except picopq.PicoPQError as error:\n"
        "        print('refused')\n"
    )
    for name, content in claims.items():
        (tmp_path / name).write_bytes(content)
    paths = [tmp_path / name for name in claims]
    assert run("-c", program, *paths, PICOPQ_NUM_THREADS="1") == "refused\n" * len(claims)


@pytest.mark.parametrize("extension", ["fvecs", "bvecs", "ivecs"])
def test_rows_of_unequal_length(extension: str, tmp_path: Path) -> None:
    size = 1 if extension == "bvecs" else 4
    row = lambda dim: dim.to_bytes(4, "little") + bytes(size * dim)  # noqa: E731
    path = tmp_path / f"rows.{extension}"
    path.write_bytes(row(8) * 3 + row(4) + bytes(4 * size))
    with pytest.raises(PicoPQError, match="is 4 at row 3, wanted 8"):
        list(picopq.io.blocks(path))
