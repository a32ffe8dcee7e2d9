"""Real vectors for the benchmark, built on the spot and kept under target/bench-data.

`sift`: 128-d SIFT descriptors of the photographs inside the wheels of scikit-image and
scikit-learn, at seeded random places, angles and scales. `definitions`: the 384-d sentence
embeddings of examples/definitions, repeated where a case wants more rows than there are.
Codebooks and codes that several peers share are made here too, with Faiss. Everything is
deterministic; delete the folder to build it again.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from importlib.resources import files
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "target" / "bench-data"
DIM = {"sift": 128, "definitions": 384}

CHUNK = 100_000  # descriptors per file; chunk i is drawn with seed i
QUERY_SEED = 1_000_000
QUERIES = 100
MANY_QUERIES = 5_000  # where recall is compared: of 100, chance decides the third digit
CODEBOOK_ROWS = 25_600

# Photographs that ship in the wheels; the other images of skimage.data are drawings,
# crops of these, or fetched over the network. The second half of the stereo pair is left
# out, because it would repeat the first.
PHOTOGRAPHS = {
    "skimage/data": (
        "astronaut.png brick.png camera.png cell.png chelsea.png clock_motion.png coffee.png "
        "coins.png grass.png gravel.png hubble_deep_field.jpg ihc.png moon.png "
        "motorcycle_left.png page.png retina.jpg rocket.jpg text.png"
    ).split(),
    "sklearn/datasets/images": ["china.jpg", "flower.jpg"],
}
OCTAVES = (0.55, 0.3, 0.15)  # share of the descriptors taken at each octave
LEAST_CONTRAST = 6.0  # grey levels: below it a descriptor shows noise, not the picture

DESCRIPTION = {
    "sift": f"{sum(map(len, PHOTOGRAPHS.values()))} photographs of the scikit-image and "
    "scikit-learn wheels, OpenCV SIFT at seeded random places, angles and scales",
    "definitions": "10,000 WordNet definitions, all-MiniLM-L6-v2 embeddings, unit length, "
    "repeated in order where more rows are asked for",
}


def kept(name: str, build: Callable[[], np.ndarray]) -> np.ndarray:
    """The array saved under this name, built first when it is missing."""
    path = FOLDER / f"{name}.npy"
    if not path.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part.npy")
        np.save(part, build())
        part.replace(path)
    return np.load(path)


@cache
def photographs() -> list[np.ndarray]:
    import cv2

    paths = [
        files(folder.split("/")[0]).joinpath(*folder.split("/")[1:], name)
        for folder, names in PHOTOGRAPHS.items()
        for name in names
    ]
    return [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in paths]


def extract_sift(rows: int, seed: int) -> np.ndarray:
    """(rows, 128) uint8 descriptors, in random order."""
    import cv2

    rng = np.random.default_rng(seed)
    photos = photographs()
    area = np.array([photo.size for photo in photos], dtype=float)
    counts = rng.multinomial(rows, area / area.sum())
    sift = cv2.SIFT_create()
    parts = []
    for photo, count in zip(photos, counts):
        keypoints = []
        for octave, n in enumerate(rng.multinomial(count, OCTAVES)):
            window = (24 << octave, 24 << octave)
            grey = photo.astype(np.float32)
            mean = cv2.blur(grey, window)
            variance = cv2.blur(grey * grey, window) - mean * mean
            places = np.flatnonzero(variance > LEAST_CONTRAST**2)
            y, x = np.divmod(rng.choice(places, n), photo.shape[1])
            layer = rng.integers(1, 4, n)
            level = octave + (layer + rng.uniform(-0.5, 0.5, n)) / 3
            keypoints += map(
                cv2.KeyPoint,
                (x + rng.uniform(-0.5, 0.5, n)).tolist(),
                (y + rng.uniform(-0.5, 0.5, n)).tolist(),
                (2 * 1.6 * 2**level).tolist(),  # diameter: twice the blur
                rng.uniform(0, 360, n).tolist(),
                [1.0] * n,
                (octave + (layer << 8)).tolist(),  # how OpenCV packs the two
            )
        if keypoints:
            parts.append(sift.compute(photo, keypoints)[1].astype(np.uint8))
    return rng.permutation(np.concatenate(parts))


def vectors(name: str, rows: int) -> np.ndarray:
    """(rows, D) float32."""
    if name == "sift":
        seeds = range(-(-rows // CHUNK))
        chunks = [kept(f"sift-{i}", partial(extract_sift, CHUNK, i)) for i in seeds]
        return np.concatenate(chunks)[:rows].astype(np.float32)
    real = np.load(ROOT / "examples" / "definitions" / "vectors.npy").astype(np.float32)
    return np.tile(real, (-(-rows // len(real)), 1))[:rows]


def queries(count: int = QUERIES) -> np.ndarray:
    """(count, 128) float32 descriptors that are not among the vectors."""
    name, most, seed = "sift-queries", QUERIES, QUERY_SEED
    if count > QUERIES:
        name, most, seed = "sift-many-queries", MANY_QUERIES, QUERY_SEED + 1
    return kept(name, partial(extract_sift, most, seed))[:count].astype(np.float32)


def codebook(name: str, m: int, ks: int) -> np.ndarray:
    """(M, Ks, Ds) float32, the same for every peer: trained once with Faiss."""

    def train() -> np.ndarray:
        import faiss

        pq = faiss.ProductQuantizer(DIM[name], m, ks.bit_length() - 1)
        pq.train(vectors(name, CODEBOOK_ROWS))
        return faiss.vector_to_array(pq.centroids).reshape(m, ks, -1)

    return kept(f"codebook-{name}-m{m}-ks{ks}", train)


def codes(name: str, m: int, ks: int, rows: int) -> np.ndarray:
    """(rows, M) uint8 codes of the vectors in the shared codebook."""

    def encode() -> np.ndarray:
        import faiss

        pq = faiss.ProductQuantizer(DIM[name], m, ks.bit_length() - 1)
        faiss.copy_array_to_vector(codebook(name, m, ks).ravel(), pq.centroids)
        packed = pq.compute_codes(vectors(name, rows))
        return packed if ks == 256 else faiss.unpack_bitstrings(packed, m, pq.nbits).astype(np.uint8)

    return kept(f"codes-{name}-m{m}-" + (f"ks{ks}-" if ks != 256 else "") + str(rows), encode)


def truth(name: str, rows: int, count: int) -> np.ndarray:
    """(count, 100) int64: the nearest vectors of each query, nearest first."""

    def search(queries: np.ndarray) -> np.ndarray:
        from picopq.evaluate import ground_truth

        return ground_truth(vectors(name, rows), queries, 100)[1]

    if count > QUERIES:
        return kept(f"truth-many-{name}-{rows}", lambda: search(queries(MANY_QUERIES)))[:count]
    return kept(f"truth-{name}-{rows}", lambda: search(queries()))[:count]


@dataclass(frozen=True)
class Inputs:
    """What one peer gets; an array that the work does not read is None."""

    data: str
    m: int
    ks: int
    k: int
    batch: int
    vecs: np.ndarray | None = None  # (n, D)
    codewords: np.ndarray | None = None  # (M, Ks, Ds)
    codes: np.ndarray | None = None  # (n, M)
    queries: np.ndarray | None = None  # (nq, D)

    @property
    def dim(self) -> int:
        return DIM[self.data]

    @property
    def batches(self) -> list[np.ndarray]:
        """The queries, cut into those of one call."""
        step = self.batch or len(self.queries)
        return [self.queries[i : i + step] for i in range(0, len(self.queries), step)]


def inputs(case, rows: int) -> Inputs:
    name, m, ks = case.data, case.m, case.ks
    arrays = {}
    if case.op in ("encode", "add", "fit", "fit_default", "opq", "opq_short"):
        arrays["vecs"] = vectors(name, rows)
    if case.op in ("encode", "add", "decode", "dtable", "adist", "search", "index", "recall", "hold"):
        arrays["codewords"] = codebook(name, m, ks)
    if case.op in ("decode", "adist", "search", "index", "recall", "hold"):
        arrays["codes"] = codes(name, m, ks, rows)
    if case.op in ("dtable", "adist", "search", "index", "recall", "hold"):
        arrays["queries"] = queries(case.nq)
    return Inputs(name, m, ks, case.k, case.batch, **arrays)


def describe(name: str) -> dict[str, str]:
    """What the vectors are, and the CRC-32 of the first 10,000, which tells two records' data
    apart."""
    return {"what": DESCRIPTION[name], "crc32": f"{zlib.crc32(vectors(name, 10_000)):08x}"}
