"""What the tests share: data, reference results, and programs run in a fresh interpreter."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import warnings
from pathlib import Path

import nanopq
import numpy as np
import pytest

import picopq

ROOT = Path(__file__).resolve().parents[2]
DEFINITIONS = ROOT / "examples" / "definitions" / "vectors.npy"


def synthetic(kind: str, n: int, dim: int, seed: int = 0) -> np.ndarray:
    """Vectors (n, dim) float32 of a named kind."""
    rng = np.random.default_rng(seed)
    if kind == "definitions":
        return np.load(DEFINITIONS)[:n, :dim].astype(np.float32)
    if kind == "gaussian":
        vecs = rng.standard_normal((n, dim))
    elif kind == "correlated":
        vecs = rng.standard_normal((n, dim)) @ rng.standard_normal((dim, dim))
    elif kind == "clustered":
        centres = 4 * rng.standard_normal((50, dim))
        vecs = centres[rng.integers(50, size=n)] + rng.standard_normal((n, dim))
    elif kind == "far from 0":
        vecs = 1000 + rng.standard_normal((n, dim))
    elif kind == "heavy tails":
        vecs = rng.standard_t(3, (n, dim))
    elif kind == "uneven axes":
        vecs = rng.standard_normal((n, dim)) * np.geomspace(10, 0.1, dim)
    else:
        raise KeyError(kind)
    return vecs.astype(np.float32)


def error(model: object, vecs: np.ndarray) -> float:
    """Mean squared reconstruction error per vector."""
    difference = vecs.astype(np.float64) - model.decode(model.encode(vecs))
    return float((difference**2).sum(axis=1).mean())


def reference(model: object, *args: object, **kwargs: object) -> int:
    """Fit a model of nanopq; the number of times it met an empty cluster."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(*args, **kwargs)
    return sum("clusters is empty" in str(warning.message) for warning in caught)


def run(*arguments: object, cwd: Path | None = None, timeout: float = 60, **env: str) -> str:
    """What a fresh interpreter prints; it must succeed within `timeout` seconds."""
    result = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        timeout=timeout,
        env=os.environ | env,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="session")
def vecs() -> np.ndarray:  # (600, 16)
    return synthetic("clustered", 600, 16)


@pytest.fixture(scope="session")
def trained_pq(vecs: np.ndarray) -> picopq.PQ:
    return picopq.PQ(4, 32, verbose=False).fit(vecs)


@pytest.fixture(scope="session")
def trained_opq(vecs: np.ndarray) -> picopq.OPQ:
    return picopq.OPQ(4, 32, verbose=False).fit(vecs, rotation_iter=3)


@pytest.fixture
def pq(trained_pq: picopq.PQ) -> picopq.PQ:
    """A trained PQ that a test may change."""
    return copy.deepcopy(trained_pq)


@pytest.fixture
def opq(trained_opq: picopq.OPQ) -> picopq.OPQ:
    return copy.deepcopy(trained_opq)


@pytest.fixture(autouse=True)
def all_threads() -> object:
    """A test may change the number of threads; the next one starts from the default."""
    yield
    picopq.set_num_threads(0)


def like(model: object, metric: str | None = None) -> object:
    """nanopq's model with the codewords, and the rotation, of one of picopq's."""
    kind = nanopq.OPQ if isinstance(model, picopq.OPQ) else nanopq.PQ
    twin = kind(model.M, model.Ks, metric or model.metric, verbose=False)
    inner, source = (twin.pq, model.pq) if kind is nanopq.OPQ else (twin, model)
    inner.codewords, inner.Ds = source.codewords, source.Ds
    if kind is nanopq.OPQ:
        twin.R = model.R
    return twin
