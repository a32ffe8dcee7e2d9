"""Types, stubs and the examples of the README."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import ROOT, run

import picopq

PACKAGE = Path(picopq.__file__).parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_annotations_are_strict() -> None:
    run("-m", "mypy", "--strict", "--cache-dir", "/dev/null", PACKAGE, timeout=120)


def test_stubs_match_what_is_built() -> None:
    run("-m", "mypy.stubtest", "picopq", timeout=120)


USE = """
import numpy as np, picopq
from typing_extensions import assert_type
from numpy.typing import NDArray
vecs = np.zeros((10, 4), np.float32)
pq = picopq.PQ(2, 4).fit(vecs)
assert_type(pq, picopq.PQ)
codes, kept = pq.encode(vecs, drop_nonfinite=True)
assert_type(kept, NDArray[np.int64])
assert_type(pq.decode(pq.encode(vecs)), NDArray[np.float32])
picopq.PQ(2, metric="cosine")
"""


def test_callers_see_the_types(tmp_path: Path) -> None:
    (tmp_path / "use.py").write_text(USE)
    with pytest.raises(AssertionError, match=r"use\.py:11: error: .*\"metric\"") as caught:
        run("-m", "mypy", "--strict", "--cache-dir", "/dev/null", tmp_path / "use.py", timeout=120)
    assert "Found 1 error" in str(caught.value)


def test_readme_has_examples() -> None:
    assert BLOCKS


@pytest.mark.parametrize("block", BLOCKS)
def test_readme_example(block: str) -> None:
    run("-c", block, cwd=ROOT)
