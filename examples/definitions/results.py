"""What a run finds, and how that reads as plain text.

`demo.py` fills these records; `report.py` shows the same ones as a page.
"""

import textwrap
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HEADINGS = (
    "method",
    "bytes",
    "ratio",
    "error",
    "recall@1",
    "recall@10",
    "train s",
    "encode s",
    "search s",
)

MARKS = {
    "=": "exact, same place",
    "~": "exact, other place",
    ".": "not among the exact",
}


@dataclass(frozen=True)
class Result:
    """What one method at one size keeps, and its seconds."""

    method: str
    n_bytes: int  # a vector
    ratio: float
    error: float  # over the variance of the data
    recall_1: float
    recall_10: float
    train_s: float
    encode_s: float
    search_s: float
    losses: NDArray[np.float64]  # (steps,), over the variance
    codebook_mb: float

    def row(self) -> tuple[str, ...]:
        """One text for each of `HEADINGS`."""
        return (
            self.method,
            f"{self.n_bytes}",
            f"{self.ratio:.0f}x",
            f"{self.error:.3f}",
            f"{self.recall_1:.3f}",
            f"{self.recall_10:.3f}",
            f"{self.train_s:.2f}",
            f"{self.encode_s:.3f}",
            f"{self.search_s:.3f}",
        )


@dataclass(frozen=True)
class Search:
    """A query in words, and the definitions nearest to it, best first."""

    query: str
    exact: list[str]
    found: list[str]  # from the codes alone

    def mark(self, rank: int) -> str:
        """The one of `MARKS` for the answer found at `rank`."""
        if self.found[rank] == self.exact[rank]:
            return "="
        return "~" if self.found[rank] in self.exact else "."


@dataclass(frozen=True)
class Findings:
    """All of one run."""

    n: int
    dim: int
    n_queries: int
    exact_search_s: float
    results: list[Result]
    shown: Result  # whose codes answered the searches
    searches: list[Search]

    def rows(self) -> list[tuple[str, ...]]:
        """The table under `HEADINGS`: the exact search, then the codes."""
        exact_s = f"{self.exact_search_s:.3f}"
        exact = ("float32", f"{4 * self.dim}", "1x", "0", "1", "1", "-", "-", exact_s)
        return [exact, *(result.row() for result in self.results)]

    def notes(self) -> list[str]:
        """What the columns of the table measure."""
        codebook_mb = {result.method: result.codebook_mb for result in self.results}
        return [
            "bytes, ratio: one vector, and how much smaller than float32 that is. The codebook "
            "comes on top, once for all vectors: "
            f"{codebook_mb['PQ']:.2f} MB for PQ, {codebook_mb['OPQ']:.2f} MB for OPQ with its "
            "rotation.",
            "error: mean squared error of the decoded vectors over the variance of the data. 0 is "
            "a perfect copy, 1 is the mean vector in place of every vector.",
            "recall@1, recall@10: share of queries whose exact nearest neighbour is the first "
            "answer, or among the first 10.",
            f"seconds: train and encode take all {self.n:,} vectors; search is one call with "
            f"{self.n_queries:,} queries that scans all codes. The float32 search is a matrix "
            "product in NumPy.",
            f"queries: {self.n_queries:,} of the stored vectors, drawn at random, each left out of "
            "its own answers. Training sees the same vectors, so the error is a training error.",
        ]


def table(findings: Findings) -> str:
    """The table in aligned columns, a blank line where the method changes."""
    rows = [HEADINGS, *findings.rows()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for i, row in enumerate(rows):
        if i > 0 and row[0] != rows[i - 1][0]:
            lines.append("")
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join([row[0].ljust(widths[0]), *cells[1:]]))
    return "\n".join(lines)


def side_by_side(search: Search, width: int) -> str:
    """The exact answers and those found, in two wrapped columns with the mark between them."""
    column = (width - 3) // 2
    lines = textwrap.wrap(search.query, width, initial_indent="> ", subsequent_indent="  ")
    for rank, answers in enumerate(zip(search.exact, search.found, strict=True)):
        left, right = (
            textwrap.wrap(answer, column, initial_indent=f"{rank + 1} ", subsequent_indent="  ")
            for answer in answers
        )
        height = max(len(left), len(right))
        left += [""] * (height - len(left))
        right += [""] * (height - len(right))
        marks = [search.mark(rank), *[" "] * (height - 1)]
        for text, mark, other in zip(left, marks, right, strict=True):
            lines.append(f"{text:<{column}} {mark} {other}".rstrip())
    return "\n".join(lines)
