"""Files larger than memory, and the command line of the package."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import DEFINITIONS, run, synthetic

import picopq


@pytest.mark.parametrize("model", [picopq.PQ, picopq.OPQ])
@pytest.mark.parametrize("Ks", [16, 300])
def test_a_file_is_encoded_as_its_array(model: type, Ks: int, tmp_path: Path) -> None:
    vecs = synthetic("clustered", 1000, 16)
    np.save(tmp_path / "vecs.npy", vecs)
    quantizer = model(4, Ks, verbose=False).fit(vecs)
    seen: list[tuple[int, int]] = []
    rows = quantizer.encode_file(
        tmp_path / "vecs.npy",
        tmp_path / "codes.npy",
        block_rows=7,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert rows == 1000 and seen[-1] == (1000, 1000)
    assert np.array_equal(np.load(tmp_path / "codes.npy"), quantizer.encode(vecs))
    assert sorted(os.listdir(tmp_path)) == ["codes.npy", "vecs.npy"]


def test_an_interrupted_file_is_resumed(tmp_path: Path) -> None:
    vecs = synthetic("clustered", 200_000, 16)
    np.save(tmp_path / "vecs.npy", vecs)
    pq = picopq.PQ(4, verbose=False).fit(vecs[:5000])
    source, output = tmp_path / "vecs.npy", tmp_path / "codes.npy"

    def stop(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pq.encode_file(source, output, block_rows=16, progress=stop)
    assert Path(f"{output}.partial").exists() and not output.exists()
    assert pq.encode_file(source, output, resume=True) == 200_000
    assert np.array_equal(np.load(output), pq.encode(vecs))


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    vecs = synthetic("clustered", 300, 16)
    pq = picopq.PQ(4, 16, verbose=False).fit(vecs)
    vecs[299, 3] = np.nan
    np.save(tmp_path / "vecs.npy", vecs)
    with pytest.raises(picopq.PicoPQError, match="row 299, column 3"):
        pq.encode_file(tmp_path / "vecs.npy", tmp_path / "codes.npy", block_rows=100)
    with pytest.raises(picopq.PicoPQError, match=r"want the extension \.npy"):
        pq.encode_file(tmp_path / "vecs.npy", tmp_path / "codes.bin")
    with pytest.raises(FileNotFoundError):
        pq.encode_file(tmp_path / "none.npy", tmp_path / "codes.npy")


def test_the_package_starts_the_command_line(tmp_path: Path) -> None:
    out = run("-m", "picopq", "info", DEFINITIONS)
    assert "rows             10000" in out and "dimension        384" in out
    script = Path(sys.executable).parent / "picopq"
    assert script.exists()
    done = subprocess.run(
        [script, "info", tmp_path / "none.npy"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 74 and "none.npy: No such file" in done.stderr
