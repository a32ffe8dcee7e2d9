"""The cases, as data: one row per measurement, with the reason it is there."""

from __future__ import annotations

from dataclasses import dataclass

EVERYONE = (("picopq", 1), ("nanopq", 1), ("faiss", 1))
PICOPQ_FAISS = (("picopq", 1), ("faiss", 1))
SCALING = (("picopq", 2), ("picopq", 1), ("faiss", 2), ("faiss", 1))

FULL, QUICK = 1_000_000, 100_000
TEXTS, FEW_TEXTS = 100_000, 20_000  # the 10,000 real rows, ten times and twice
# Faiss's k-means leaves its fast path where rows * Ks * Ds is under 2^25, and is then ten
# times slower; no training case is that small.
TRAIN, FEW_TRAIN = 100_000, 20_000


@dataclass(frozen=True)
class Case:
    op: str  # a method of the peers and a function of checks.py
    data: str
    m: int
    rows: int
    quick_rows: int  # 0: left out of the quick mode
    reason: str
    ks: int = 256
    nq: int = 1
    contestants: tuple[tuple[str, int], ...] = EVERYONE  # (peer, threads); the first is the base
    tag: str = ""

    @property
    def name(self) -> str:
        ks = "" if self.ks == 256 else f"ks{self.ks}"
        return "-".join(filter(None, [self.op, self.data, f"m{self.m}", ks, self.tag]))

    def size(self, quick: bool, peer: str = "") -> int:
        """Rows that this peer gets: nanopq encodes few, because it is slow and rates compare."""
        rows = self.quick_rows if quick else self.rows
        return rows // 20 if (peer, self.op) == ("nanopq", "encode") else rows

    def items(self, rows: int) -> int:
        """Things that one call does: rows encoded, codes scanned, tables built."""
        return rows * self.nq


TWO = {"contestants": SCALING, "tag": "two-threads"}
PAIR = {"contestants": PICOPQ_FAISS}
# fmt: off
CASES = [
    Case("encode", "sift", 8, FULL, QUICK, "Ds=16: Faiss goes through BLAS and a full table"),
    Case("encode", "sift", 16, FULL, QUICK, "Ds=8: the widest vectorised path of Faiss"),
    Case("encode", "sift", 32, FULL, QUICK, "Ds=4: the argmin costs as much as the products"),
    Case("encode", "definitions", 24, TEXTS, FEW_TEXTS, "sentence embeddings, Ds=16"),
    Case("encode", "definitions", 48, TEXTS, FEW_TEXTS, "sentence embeddings, Ds=8"),
    Case("encode", "definitions", 96, TEXTS, FEW_TEXTS, "sentence embeddings, Ds=4"),
    Case("encode", "sift", 32, FULL, QUICK, "4-bit codes: little arithmetic to a byte", ks=16),
    Case("encode", "sift", 64, FULL, QUICK, "4-bit codes, Ds=2", ks=16),
    Case("encode", "sift", 16, FULL, QUICK, "what a second thread brings", **TWO),
    Case("fit", "sift", 8, TRAIN, FEW_TRAIN, "20 iterations over all rows for everyone"),
    Case("fit", "sift", 16, TRAIN, FEW_TRAIN, "the same, Ds=8"),
    Case("fit", "sift", 32, TRAIN, 0, "the same, Ds=4"),
    Case("fit", "sift", 16, TRAIN, FEW_TRAIN, "what a second thread brings", **TWO),
    Case("fit_default", "sift", 8, TRAIN, FEW_TRAIN, "Faiss: 25 iterations, 65,536 rows", **PAIR),
    Case("fit_default", "sift", 16, TRAIN, 0, "the same, Ds=8", **PAIR),
    Case("fit_default", "sift", 32, TRAIN, 0, "the same, Ds=4", **PAIR),
    Case("opq", "sift", 8, 50_000, 10_000, "a rotation learnt, each peer at its defaults"),
    Case("opq", "sift", 16, 50_000, 0, "the same, Ds=8"),
    Case("opq", "definitions", 24, FEW_TEXTS, 0, "D=384: products of rotations count"),
    Case("opq", "definitions", 48, FEW_TEXTS, 0, "the same, Ds=8"),
    Case("decode", "sift", 8, FULL, QUICK, "64-byte copies: the speed of writing memory"),
    Case("decode", "sift", 16, FULL, QUICK, "32-byte copies"),
    Case("decode", "sift", 32, FULL, QUICK, "16-byte copies: one load and one store each"),
    Case("dtable", "sift", 8, 1, 1, "what every query pays first"),
    Case("dtable", "sift", 16, 1, 1, "the same, Ds=8"),
    Case("dtable", "sift", 32, 1, 1, "the same, Ds=4"),
    Case("adist", "sift", 8, FULL, QUICK, "the scan of one query, 8 look-ups a code"),
    Case("adist", "sift", 16, FULL, QUICK, "16 look-ups a code"),
    Case("adist", "sift", 32, FULL, QUICK, "32 look-ups a code: the table fills the L1 cache"),
    Case("adist", "sift", 16, 1_000, 1_000, "the cost of a call itself", tag="small"),
    Case("search", "sift", 16, FULL, QUICK, "ten best; nanopq: adist and argpartition"),
    Case("search", "sift", 16, FULL, 0, "sixteen queries in one call", nq=16, tag="nq16"),
]
# fmt: on
