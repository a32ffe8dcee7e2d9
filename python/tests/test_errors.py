"""Bad input: a typed error that names the argument, what came and what was wanted.

The whole table runs once more in an interpreter with -O, where assert statements are gone.
"""

from __future__ import annotations

import subprocess
import sys
import warnings
from typing import NamedTuple

import numpy as np
import pytest

import picopq
from picopq import OPQ, PQ, DistanceTable, PicoPQError, evaluate


class Given(NamedTuple):
    """What a row of the table starts from: trained models and data that fit them."""

    pq: PQ  # M = 4, Ks = 32, Ds = 4
    opq: OPQ
    vecs: np.ndarray  # (600, 16)
    codes: np.ndarray  # (600, 4)
    table: DistanceTable


@pytest.fixture
def given(pq: PQ, opq: OPQ, vecs: np.ndarray) -> Given:
    return Given(pq, opq, vecs, pq.encode(vecs), pq.dtable(vecs[0]))


def put(array: np.ndarray, *entries: tuple) -> np.ndarray:
    """A copy with entries (position, value) changed."""
    changed = array.copy()
    for position, value in entries:
        changed[position] = value
    return changed


def edited(model: object, **fields: object) -> object:
    vars(model).update(fields)
    return model


NEW = PQ(4, 32, verbose=False)
NEW_OPQ = OPQ(4, 32, verbose=False)
NAN, INF = np.nan, np.inf

# reason: (call, error, what the message must say)
BAD_INPUT = {
    # the constructor
    "M is 0": (lambda g: PQ(0), PicoPQError, "M: got 0, want >= 1"),
    "M is no integer": (lambda g: OPQ(2.5), PicoPQError, "M: got 2.5, want an integer"),
    "Ks is 0": (lambda g: PQ(4, 0), PicoPQError, r"Ks: got 0, want in 1\.\.4294967296"),
    "Ks too large": (lambda g: OPQ(4, 2**32 + 1), PicoPQError, "Ks: got 4294967297"),
    "unknown metric": (
        lambda g: PQ(4, metric="cosine"),
        PicoPQError,
        "metric: got 'cosine', want one of 'l2', 'dot'",
    ),
    "metric is no text": (lambda g: PQ(4, metric=np.ones(2)), PicoPQError, "metric"),
    # before fit
    "encode before fit": (lambda g: NEW.encode(g.vecs), PicoPQError, r"call fit\(\) first"),
    "decode before fit": (lambda g: NEW.decode(g.codes), PicoPQError, r"call fit\(\) first"),
    "dtable before fit": (lambda g: NEW.dtable(g.vecs[0]), PicoPQError, r"call fit\(\) first"),
    "search before fit": (
        lambda g: NEW.search(g.vecs, g.codes, 1),
        PicoPQError,
        r"call fit\(\) first",
    ),
    "rotate before fit": (lambda g: NEW_OPQ.rotate(g.vecs), PicoPQError, r"call fit\(\) first"),
    "opq encode before fit": (
        lambda g: NEW_OPQ.encode(g.vecs),
        PicoPQError,
        r"call fit\(\) first",
    ),
    "opq decode before fit": (
        lambda g: NEW_OPQ.decode(g.codes),
        PicoPQError,
        r"call fit\(\) first",
    ),
    "codewords without Ds": (
        lambda g: edited(g.pq, Ds=None).encode(g.vecs),
        PicoPQError,
        r"call fit\(\) first",
    ),
    # attributes that do not fit together
    "Ds against codewords": (
        lambda g: edited(g.pq, Ds=5).encode(g.vecs),
        PicoPQError,
        r"codewords: got shape \(4, 32, 4\), want \(M, Ks, Ds\) = \(4, 32, 5\)",
    ),
    "codewords of rank 2": (
        lambda g: edited(g.pq, codewords=np.ones((4, 32))).decode(g.codes),
        PicoPQError,
        r"codewords: got 2 axes, shape \(4, 32\), want \(M, Ks, Ds\)",
    ),
    "codewords of text": (
        lambda g: edited(g.pq, codewords=[[["a"]]]).encode(g.vecs),
        PicoPQError,
        "codewords: got dtype <U1",
    ),
    "codewords not finite": (
        lambda g: edited(g.pq, codewords=put(g.pq.codewords, ((1, 2, 3), NAN))).encode(g.vecs),
        PicoPQError,
        "codewords",
    ),
    "R of another dimension": (
        lambda g: edited(g.opq, R=np.eye(15)).encode(g.vecs),
        PicoPQError,
        r"R: got shape \(15, 15\), want \(D, D\) = \(16, 16\)",
    ),
    "R not square": (
        lambda g: edited(g.opq, R=np.ones((16, 8))).rotate(g.vecs),
        PicoPQError,
        r"R: got shape \(16, 8\), want \(D, D\)",
    ),
    "R of rank 1": (
        lambda g: edited(g.opq, R=np.ones(16)).decode(g.codes),
        PicoPQError,
        "R: got 1 axes",
    ),
    "metric assigned": (
        lambda g: edited(g.pq, metric="cosine").dtable(g.vecs[0]),
        PicoPQError,
        "metric",
    ),
    # vectors
    "encode, other dimension": (
        lambda g: g.pq.encode(g.vecs[:, :12]),
        PicoPQError,
        "dimension mismatch: model has 16, vecs has 12",
    ),
    "opq encode, other dimension": (
        lambda g: g.opq.encode(g.vecs[:, :12]),
        PicoPQError,
        "dimension mismatch: model has 16, vecs has 12",
    ),
    "query, other dimension": (
        lambda g: g.opq.dtable(g.vecs[0, :12]),
        PicoPQError,
        "dimension mismatch: model has 16, query has 12",
    ),
    "queries, other dimension": (
        lambda g: g.opq.search(g.vecs[:, :12], g.codes, 1),
        PicoPQError,
        "dimension mismatch: model has 16, queries has 12",
    ),
    "rotate, other dimension": (
        lambda g: g.opq.rotate(g.vecs[0, 1:]),
        PicoPQError,
        "dimension mismatch: model has 16, vecs has 15",
    ),
    "encode one vector": (
        lambda g: g.pq.encode(g.vecs[0]),
        PicoPQError,
        r"vecs: got 1 axes, shape \(16,\), want \(N, D\)",
    ),
    "query of rank 2": (
        lambda g: g.pq.dtable(g.vecs),
        PicoPQError,
        r"query: got 2 axes, shape \(600, 16\), want \(D\)",
    ),
    "queries of rank 3": (
        lambda g: g.pq.search(g.vecs[None], g.codes, 1),
        PicoPQError,
        r"queries: got 3 axes.*want \(D\) or \(nq, D\)",
    ),
    "a number": (lambda g: g.pq.encode(3), PicoPQError, r"vecs: got 0 axes, shape \(\)"),
    "None": (lambda g: g.pq.encode(None), PicoPQError, "vecs: got dtype object, want float32"),
    "bool": (lambda g: g.pq.encode(g.vecs > 0), PicoPQError, "vecs: got dtype bool"),
    "complex": (lambda g: NEW.fit(g.vecs * 1j), PicoPQError, "vecs: got dtype complex64"),
    "object": (lambda g: NEW.fit(g.vecs.astype(object)), PicoPQError, "vecs: got dtype object"),
    "text": (lambda g: g.pq.encode(g.vecs.astype(str)), PicoPQError, "vecs: got dtype <U"),
    "dates": (lambda g: g.pq.dtable(np.zeros(16, "M8[s]")), PicoPQError, "query: got dtype dat"),
    "ragged lists": (lambda g: g.pq.encode([[1, 2], [3]]), PicoPQError, "vecs: not an array"),
    "float64 beyond float32": (
        lambda g: g.pq.encode(put(g.vecs.astype(float), ((7, 2), 1e39), ((9, 1), -1e300))),
        PicoPQError,
        r"vecs has 2 value\(s\) too large for float32, the first 1e\+39 at \[7, 2\]",
    ),
    "NaN in encode": (
        lambda g: g.pq.encode(put(g.vecs, ((7, 2), NAN), ((9, 1), INF))),
        PicoPQError,
        "has 2 value.*row 7, column 2",
    ),
    "infinity in encode": (
        lambda g: g.pq.encode(put(g.vecs, ((599, 15), -INF))),
        PicoPQError,
        "vecs has 1 value.*row 599, column 15",
    ),
    "NaN in opq encode": (
        lambda g: g.opq.encode(put(g.vecs, ((7, 2), NAN), ((9, 1), INF))),
        PicoPQError,
        "has 2 value.*row 7, column 2",
    ),
    "NaN in fit": (
        lambda g: NEW.fit(put(g.vecs, ((7, 2), NAN), ((9, 1), INF))),
        PicoPQError,
        "has 2 value.*row 7, column 2",
    ),
    "NaN in opq fit": (
        lambda g: NEW_OPQ.fit(put(g.vecs, ((7, 2), NAN), ((9, 1), INF))),
        PicoPQError,
        "has 2 value.*row 7, column 2",
    ),
    "NaN in eigenvalue_allocation": (
        lambda g: NEW_OPQ.eigenvalue_allocation(put(g.vecs, ((7, 2), NAN))),
        PicoPQError,
        "has 1 value.*row 7, column 2",
    ),
    "NaN in a query": (
        lambda g: g.pq.dtable(put(g.vecs[0], (2, NAN))),
        PicoPQError,
        "query has 1 value.*column 2",
    ),
    "NaN in an opq query": (
        lambda g: g.opq.dtable(put(g.vecs[0], (2, NAN))),
        PicoPQError,
        "query has 1 value.*column 2",
    ),
    "NaN in queries": (
        lambda g: g.pq.search(put(g.vecs, ((7, 2), NAN), ((9, 1), INF)), g.codes, 1),
        PicoPQError,
        "has 2 value.*row 7, column 2",
    ),
    "NaN in opq queries": (
        lambda g: g.opq.search(put(g.vecs, ((7, 2), NAN), ((9, 1), INF)), g.codes, 1),
        PicoPQError,
        "has 2 value.*row 7, column 2",
    ),
    "squares overflow in fit": (
        lambda g: NEW.fit(put(g.vecs, ((7, 2), 1e20))),
        PicoPQError,
        "column 2",
    ),
    "squares overflow in opq fit": (
        lambda g: NEW_OPQ.fit(put(g.vecs, ((7, 2), 1e20))),
        PicoPQError,
        "column 2",
    ),
    "squares overflow in encode": (
        lambda g: g.pq.encode(put(g.vecs, ((7, 2), -1e20))),
        PicoPQError,
        "column 2",
    ),
    "squares overflow in a query": (
        lambda g: g.pq.dtable(put(g.vecs[0], (2, 1e20))),
        PicoPQError,
        "column 2",
    ),
    # training
    "no rows": (lambda g: NEW.fit(g.vecs[:0]), PicoPQError, "vecs has no rows"),
    "no rows, few allowed": (
        lambda g: NEW_OPQ.fit(g.vecs[:0], allow_few_rows=True),
        PicoPQError,
        "vecs has no rows",
    ),
    "no columns": (lambda g: NEW.fit(g.vecs[:, :0]), PicoPQError, "vecs has no columns"),
    "as many rows as Ks": (
        lambda g: NEW.fit(g.vecs[:32]),
        PicoPQError,
        "vecs has 32 rows, Ks = 32 wants more than 32; allow_few_rows=True",
    ),
    "too few finite rows": (
        lambda g: NEW.fit(put(g.vecs[:33], (0, NAN)), drop_nonfinite=True),
        PicoPQError,
        "vecs has 32 rows, Ks = 32",
    ),
    "M does not divide D": (
        lambda g: NEW.fit(g.vecs[:, :10]),
        PicoPQError,
        "dimension 10, not a multiple of M = 4; nearest divisors of 10: 2, 5",
    ),
    "M does not divide D, opq": (
        lambda g: OPQ(3, 32, verbose=False).eigenvalue_allocation(g.vecs),
        PicoPQError,
        "dimension 16, not a multiple of M = 3; nearest divisors of 16: 2, 4",
    ),
    "M above D": (
        lambda g: OPQ(64, 32, verbose=False).fit(g.vecs),
        PicoPQError,
        "dimension 16, not a multiple of M = 64; nearest divisors of 16: 8, 16",
    ),
    "iter is 0": (lambda g: NEW.fit(g.vecs, iter=0), PicoPQError, r"iter: got 0, want in 1\.\."),
    "iter is huge": (lambda g: NEW.fit(g.vecs, iter=2**65), PicoPQError, r"iter: got 3\d+, want"),
    "max_rows is 0": (
        lambda g: NEW.fit(g.vecs, max_rows=0),
        PicoPQError,
        r"max_rows: got 0, want in 1\.\.",
    ),
    "pq_iter is 0": (
        lambda g: NEW_OPQ.fit(g.vecs, pq_iter=0),
        PicoPQError,
        r"pq_iter: got 0, want in 1\.\.",
    ),
    "rotation_iter below 0": (
        lambda g: NEW_OPQ.fit(g.vecs, rotation_iter=-1),
        PicoPQError,
        r"rotation_iter: got -1, want in 0\.\.",
    ),
    "seed below 0": (
        lambda g: NEW.fit(g.vecs, seed=-1),
        PicoPQError,
        r"seed: got -1, want in 0\.\.4294967295",
    ),
    "seed too large": (
        lambda g: NEW_OPQ.fit(g.vecs, seed=2**32),
        PicoPQError,
        "seed: got 4294967296",
    ),
    "seed is no integer": (lambda g: NEW.fit(g.vecs, seed="a"), PicoPQError, "seed: got 'a'"),
    "unknown minit": (
        lambda g: NEW.fit(g.vecs, minit="kmeans"),
        PicoPQError,
        r"minit: got 'kmeans', want one of 'random', '\+\+', 'points', 'matrix'",
    ),
    "matrix without codewords": (
        lambda g: NEW.fit(g.vecs, minit="matrix"),
        PicoPQError,
        "minit='matrix' needs init= or codewords",
    ),
    "init of another shape": (
        lambda g: NEW.fit(g.vecs, minit="matrix", init=np.ones((4, 32, 5))),
        PicoPQError,
        r"init: got shape \(4, 32, 5\), want \(M, Ks, Ds\) = \(4, 32, 4\)",
    ),
    "init not finite": (
        lambda g: NEW.fit(g.vecs, minit="matrix", init=np.full((4, 32, 4), NAN)),
        PicoPQError,
        "init",
    ),
    "init that nobody reads": (
        lambda g: NEW.fit(g.vecs, init=np.ones((4, 32, 4))),
        PicoPQError,
        "init: only minit='matrix'",
    ),
    "progress is a number": (
        lambda g: NEW.fit(g.vecs, progress=3),
        PicoPQError,
        "progress: got 3, want None, a bool or a callable",
    ),
    # codes
    "code too large": (
        lambda g: g.pq.decode(put(g.codes, ((5, 1), 32), ((6, 0), 255))),
        IndexError,
        "at row 5, sub-space 1",
    ),
    "code too large, wide type": (
        lambda g: g.pq.decode(put(g.codes.astype(int), ((5, 1), 256 + 3))),
        IndexError,
        "code 259 at row 5, sub-space 1 is out of range: there are 32 codewords",
    ),
    "code below 0": (
        lambda g: g.pq.decode(put(g.codes.astype(np.int8), ((5, 1), -1))),
        IndexError,
        "code -1 at row 5, sub-space 1 is out of range: there are 32 codewords",
    ),
    "code below 0 in adist": (
        lambda g: g.table.adist(put(g.codes.astype(int), ((5, 1), -1), ((7, 0), -2))),
        IndexError,
        "code -1 at row 5, sub-space 1 is out of range: there are 32 codewords",
    ),
    "code of 2**64 - 1": (
        lambda g: g.table.adist(put(g.codes.astype("u8"), ((5, 1), 2**64 - 1))),
        IndexError,
        "at row 5, sub-space 1",
    ),
    "code too large in adist": (
        lambda g: g.table.adist(put(g.codes, ((599, 3), 32))),
        IndexError,
        "at row 599, sub-space 3",
    ),
    "code too large in topk": (
        lambda g: g.table.topk(put(g.codes, ((5, 1), 32)), 3),
        IndexError,
        "at row 5, sub-space 1",
    ),
    "code too large in search": (
        lambda g: g.pq.search(g.vecs[0], put(g.codes, ((5, 1), 32)), 3),
        IndexError,
        "at row 5, sub-space 1",
    ),
    "code too large in opq decode": (
        lambda g: g.opq.decode(put(g.codes, ((5, 1), 32))),
        IndexError,
        "at row 5, sub-space 1",
    ),
    "codes of float": (
        lambda g: g.pq.decode(g.codes.astype(float)),
        PicoPQError,
        "codes: got dtype float64, want an integer type",
    ),
    "codes of bool": (lambda g: g.table.adist(g.codes > 3), PicoPQError, "codes: got dtype bool"),
    "codes with other M": (
        lambda g: g.pq.decode(g.codes[:, :3]),
        PicoPQError,
        "codes: got 3 columns, want M = 4",
    ),
    "codes with other M in adist": (
        lambda g: g.table.adist(np.repeat(g.codes, 2, axis=1)),
        PicoPQError,
        "codes: got 8 columns, want M = 4",
    ),
    "codes of one vector": (
        lambda g: g.opq.decode(g.codes[0]),
        PicoPQError,
        r"codes: got 1 axes, shape \(4,\), want \(N, M\)",
    ),
    # distance tables and search
    "k below 0": (lambda g: g.pq.search(g.vecs, g.codes, -1), PicoPQError, "k: got -1, want >= 0"),
    "k is no integer": (lambda g: g.table.topk(g.codes, 1.0), PicoPQError, "k: got 1.0"),
    "table of rank 1": (
        lambda g: DistanceTable(np.ones(3, np.float32)),
        PicoPQError,
        r"dtable: got 1 axes, shape \(3,\), want \(M, Ks\)",
    ),
    "table of text": (lambda g: DistanceTable([["a"]]), PicoPQError, "dtable: got dtype <U1"),
    "table with unknown metric": (
        lambda g: DistanceTable(np.ones((2, 2)), "angular"),
        PicoPQError,
        "metric: got 'angular'",
    ),
    # evaluation
    "base of other width": (
        lambda g: evaluate.ground_truth(g.vecs, g.vecs[:, :12], 1),
        PicoPQError,
        "dimension mismatch: base has 16, queries has 12",
    ),
    "base without columns": (
        lambda g: evaluate.ground_truth(g.vecs[:, :0], g.vecs, 1),
        PicoPQError,
        "base has no columns",
    ),
    "one query": (
        lambda g: evaluate.ground_truth(g.vecs, g.vecs[0], 1),
        PicoPQError,
        r"queries: got 1 axes, shape \(16,\), want \(nq, D\)",
    ),
    "NaN in the base": (
        lambda g: evaluate.ground_truth(put(g.vecs, ((7, 2), NAN), ((9, 1), INF)), g.vecs, 1),
        PicoPQError,
        r"base has 2 value\(s\) that are NaN or infinite, the first at row 7, column 2",
    ),
    "large queries": (
        lambda g: evaluate.ground_truth(g.vecs, put(g.vecs, ((3, 1), 1e30)), 1),
        PicoPQError,
        "queries has a value too large for f32 distances at row 3, column 1",
    ),
    "neighbours by another metric": (
        lambda g: evaluate.ground_truth(g.vecs, g.vecs, 1, "cosine"),
        PicoPQError,
        "metric: got 'cosine'",
    ),
    "neighbours below 0": (
        lambda g: evaluate.ground_truth(g.vecs, g.vecs, -1),
        PicoPQError,
        "k: got -1, want >= 0",
    ),
    "recall at 0": (
        lambda g: evaluate.recall_at_k([[1]], [[1]], 0),
        PicoPQError,
        "k: got 0, want >= 1",
    ),
    "recall of few columns": (
        lambda g: evaluate.recall_at_k([[1]], [[1, 2]], 3),
        PicoPQError,
        "found_ids: got 2 columns, want at least 3",
    ),
    "recall of few true columns": (
        lambda g: evaluate.k_recall_at_k([[1]], [[1, 2]], 2),
        PicoPQError,
        "truth_ids: got 1 columns, want at least 2",
    ),
    "recall of other rows": (
        lambda g: evaluate.recall_at_k([[1], [2]], [[1]], 1),
        PicoPQError,
        "found_ids: got 1 rows, truth_ids has 2",
    ),
    "recall of no query": (
        lambda g: evaluate.k_recall_at_k(g.codes[:0], g.codes[:0], 1),
        PicoPQError,
        "truth_ids has no rows",
    ),
    "recall of distances": (
        lambda g: evaluate.recall_at_k([[1]], [[1.0]], 1),
        PicoPQError,
        "found_ids: got dtype float64, want an integer type",
    ),
    "distortion of no quantizer": (
        lambda g: evaluate.distortion(g.table, g.vecs),
        PicoPQError,
        "quantizer: got DistanceTable, want a PQ or an OPQ",
    ),
    "distortion before fit": (
        lambda g: evaluate.distortion(NEW, g.vecs),
        PicoPQError,
        r"call fit\(\) first",
    ),
    "opq distortion before fit": (
        lambda g: evaluate.distortion(NEW_OPQ, g.vecs),
        PicoPQError,
        r"call fit\(\) first",
    ),
    "distortion of no rows": (
        lambda g: evaluate.distortion(g.pq, g.vecs[:0]),
        PicoPQError,
        "vecs has no rows",
    ),
    "distortion of other width": (
        lambda g: evaluate.distortion(g.opq, g.vecs[:, :12]),
        PicoPQError,
        "dimension mismatch: model has 16, vecs has 12",
    ),
    "distortion of NaN": (
        lambda g: evaluate.distortion(g.pq, put(g.vecs, ((7, 2), NAN))),
        PicoPQError,
        r"vecs has 1 value\(s\) that are NaN or infinite, the first at row 7, column 2",
    ),
    "rows of rank 1": (lambda g: picopq.finite_rows(g.vecs[0]), PicoPQError, "vecs: got 1 axes"),
    "threads below 0": (lambda g: picopq.set_num_threads(-1), OverflowError, "negative"),
}


@pytest.mark.parametrize("reason", BAD_INPUT)
def test_bad_input(reason: str, given: Given) -> None:
    call, kind, message = BAD_INPUT[reason]
    with pytest.raises(kind, match=message) as caught:
        call(given)
    if type(caught.value) is not kind:
        raise TypeError(f"{type(caught.value)} is not {kind}")
    for model in (NEW, NEW_OPQ):
        if model.codewords is not None or model.Ds is not None or model.losses is not None:
            raise ValueError("a failed call left a result behind")


def test_bad_input_with_assertions_off() -> None:
    # pytest warns that its own asserts are gone; pytest.raises is not one of them.
    command = [sys.executable, "-O", "-m", "pytest", "-W", "ignore::pytest.PytestConfigWarning"]
    result = subprocess.run(
        [*command, "-p", "no:cacheprovider", __file__, "-k", "test_bad_input and not off"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0 and f"{len(BAD_INPUT)} passed" in result.stdout, result.stdout


def test_handlers_written_for_nanopq_catch_our_errors(pq: PQ, vecs: np.ndarray) -> None:
    for kind in (AssertionError, ValueError):
        with pytest.raises(kind):
            pq.encode(vecs[0])


@pytest.mark.parametrize("bad", ["few rows", "not finite", "warning as error"])
def test_failed_fit_leaves_the_model(bad: str, pq: PQ, opq: OPQ, vecs: np.ndarray) -> None:
    data = {
        "few rows": vecs[:20],
        "not finite": put(vecs, ((3, 3), NAN)),
        "warning as error": np.ones_like(vecs),
    }[bad]
    for model in (pq, opq):
        before = {key: getattr(model, key) for key in ("codewords", "Ds", "losses", "M", "Ks")}
        with warnings.catch_warnings(), pytest.raises((PicoPQError, picopq.PicoPQWarning)):
            warnings.simplefilter("error")
            model.fit(data)
        assert all(getattr(model, key) is value for key, value in before.items())


def test_empty_clusters_are_counted_in_one_warning() -> None:
    vecs = np.repeat(np.eye(2, 16), 50, axis=0)  # one sub-space of four has two values
    with pytest.warns(picopq.PicoPQWarning, match="123 of 128 clusters are empty") as caught:
        PQ(4, 32, verbose=False).fit(vecs)
    assert len(caught) == 1 and caught[0].filename == __file__
