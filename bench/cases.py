"""The cases, as data: one row per measurement, with the reason it is there."""

from __future__ import annotations

from dataclasses import dataclass, replace

EVERYONE = (("picopq", 1), ("nanopq", 1), ("faiss", 1))
PICOPQ_FAISS = (("picopq", 1), ("faiss", 1))
SCALING = (("picopq", 2), ("picopq", 1))
FOUR_BIT = (("picopq", 1), ("fastscan", 1), ("scann", 1))  # at the same bytes a vector
EXACT_ROUNDED = (("picopq", 1), ("fastscan", 1))  # with the same codes
ADDING = (("picopq", 1), ("encoding", 1), ("faiss", 1))
HOLDING = (("picopq", 1), ("faiss", 1), ("fastscan", 1))

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
    batch: int = 0  # queries in one call of an index; 0: all
    k: int = 10
    contestants: tuple[tuple[str, int], ...] = EVERYONE  # (peer, threads); the first is the base
    tag: str = ""

    @property
    def name(self) -> str:
        ks = "" if self.ks == 256 else f"ks{self.ks}"
        return "-".join(filter(None, [self.op, self.data, f"m{self.m}", ks, self.tag]))

    @property
    def bytes(self) -> int:
        """Of one code."""
        return self.m * (self.ks - 1).bit_length() // 8

    def size(self, quick: bool, peer: str = "") -> int:
        """Rows that this peer gets: nanopq encodes few, because it is slow and rates compare."""
        rows = self.quick_rows if quick else self.rows
        return rows // 20 if (peer, self.op) == ("nanopq", "encode") else rows

    def of(self, peer: str) -> Case:
        """The case as this peer gets it: nanopq answers few queries, for the same reason."""
        few = (peer, self.op) == ("nanopq", "index")
        return replace(self, nq=self.nq // 20) if few else self

    def items(self, rows: int) -> int:
        """Things that one call does: rows encoded, codes scanned, tables built; of an index,
        queries answered."""
        return self.nq if self.op in ("index", "recall") else rows * self.nq


TWO = {"contestants": SCALING, "tag": "two-threads"}
PAIR = {"contestants": PICOPQ_FAISS}
SINGLE = {"nq": 100, "batch": 1}
BATCH = {"nq": 100}
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
    Case("opq_short", "definitions", 24, FEW_TEXTS, 0, "2 rounds, 10 steps: an error no higher than the peers'"),
    Case("opq_short", "definitions", 48, FEW_TEXTS, 0, "the same, Ds=8"),
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
    Case("index", "sift", 8, FULL, 0, "one query after the other", **SINGLE),
    Case("index", "sift", 16, FULL, QUICK, "the same, 16 look-ups a code", **SINGLE),
    Case("index", "sift", 32, FULL, 0, "the same, 32 look-ups a code", **SINGLE),
    Case("index", "sift", 8, FULL, 0, "more answers: a screen discards less", k=100, tag="k100", **SINGLE, **PAIR),
    Case("index", "sift", 16, FULL, 0, "the same", k=100, tag="k100", **SINGLE, **PAIR),
    Case("index", "sift", 32, FULL, 0, "the same", k=100, tag="k100", **SINGLE, **PAIR),
    Case("index", "sift", 8, FULL, 0, "a hundred queries in one call", tag="nq100", **BATCH, **PAIR),
    Case("index", "sift", 16, FULL, QUICK, "the same", tag="nq100", **BATCH, **PAIR),
    Case("index", "sift", 32, FULL, 0, "the same", tag="nq100", **BATCH, **PAIR),
    Case("index", "sift", 8, FULL, 0, "the same, more answers", k=100, tag="nq100-k100", **BATCH, **PAIR),
    Case("index", "sift", 16, FULL, 0, "the same", k=100, tag="nq100-k100", **BATCH, **PAIR),
    Case("index", "sift", 32, FULL, 0, "the same", k=100, tag="nq100-k100", **BATCH, **PAIR),
    Case("index", "sift", 16, FULL, 0, "4-bit codes of 8 bytes", ks=16, contestants=FOUR_BIT, **SINGLE),
    Case("index", "sift", 32, FULL, QUICK, "4-bit codes of 16 bytes", ks=16, contestants=FOUR_BIT, **SINGLE),
    Case("index", "sift", 64, FULL, 0, "4-bit codes of 32 bytes", ks=16, contestants=FOUR_BIT, **SINGLE),
    Case("index", "sift", 16, FULL, 0, "a hundred queries in one call", ks=16, tag="nq100", contestants=FOUR_BIT, **BATCH),
    Case("index", "sift", 32, FULL, 0, "the same", ks=16, tag="nq100", contestants=FOUR_BIT, **BATCH),
    Case("index", "sift", 64, FULL, 0, "the same", ks=16, tag="nq100", contestants=FOUR_BIT, **BATCH),
    Case("recall", "sift", 16, FULL, 0, "exact order against rounded: 4-bit codes of 8 bytes", ks=16, nq=5_000, contestants=EXACT_ROUNDED),
    Case("recall", "sift", 32, FULL, 0, "the same, 16 bytes", ks=16, nq=5_000, contestants=EXACT_ROUNDED),
    Case("recall", "sift", 64, FULL, 0, "the same, 32 bytes", ks=16, nq=5_000, contestants=EXACT_ROUNDED),
    Case("index", "sift", 16, FULL, 0, "what a second thread brings to one query", **SINGLE, **TWO),
    Case("index", "sift", 32, FULL, 0, "the same, 4-bit codes", ks=16, **SINGLE, **TWO),
    Case("add", "sift", 16, FULL, QUICK, "an index filled with vectors, against encoding alone", contestants=ADDING),
    Case("hold", "sift", 16, FULL, 0, "bytes an index holds for a code, 8-bit", contestants=HOLDING[:2]),
    Case("hold", "sift", 32, FULL, 0, "the same, 4-bit", ks=16, contestants=HOLDING),
]
# fmt: on
