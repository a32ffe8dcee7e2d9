"""The findings as one self-contained HTML page, from the template `page.html`.

The page holds no script and refers to nothing outside itself.
"""

from html import escape
from itertools import groupby
from pathlib import Path
from string import Template

import picopq

import plots
from results import HEADINGS, MARKS, Findings, Search

TEMPLATE = Path(__file__).with_name("page.html")
MARK_CLASSES = {"=": "same", "~": "moved", ".": "absent"}


def page(findings: Findings) -> str:
    """The whole page."""
    shown = findings.shown
    sizes = [result.n_bytes for result in findings.results if result.method == shown.method]
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        version=picopq.__version__,
        n=f"{findings.n:,}",
        dim=findings.dim,
        sizes=f"{min(sizes)} to {max(sizes)}",
        shown=f"{shown.method} {shown.n_bytes}-byte",
        ratio=f"{shown.ratio:.0f}",
        recall_1=f"{shown.recall_1:.1%}",
        recall_10=f"{shown.recall_10:.1%}",
        train_s=f"{shown.train_s:.1f}",
        recall_plot=plots.recall(findings),
        error_plot=plots.error(findings),
        table=table(findings),
        notes="\n".join(f"<li>{escape(note)}</li>" for note in findings.notes()),
        searches="\n".join(article(search, shown.n_bytes) for search in findings.searches),
    )


def table(findings: Findings) -> str:
    """The measurements, one group of rows a method."""
    shown = findings.shown.row()
    head = "".join(f'<th scope="col">{heading}</th>' for heading in HEADINGS)
    lines = [f"<table>\n<thead><tr>{head}</tr></thead>"]
    for _, rows in groupby(findings.rows(), key=lambda row: row[0]):
        lines.append("<tbody>")
        for row in rows:
            cells = "".join(f"<td>{cell}</td>" for cell in row[1:])
            highlight = ' class="shown"' if row == shown else ""
            lines.append(f'<tr{highlight}><th scope="row">{row[0]}</th>{cells}</tr>')
        lines.append("</tbody>")
    return "\n".join([*lines, "</table>"])


def article(search: Search, n_bytes: int) -> str:
    """One search: the query above its two lists of answers."""
    exact = "".join(f"<li>{definition(text)}</li>" for text in search.exact)
    found = "".join(
        f'<li>{definition(text)} <span class="mark {MARK_CLASSES[search.mark(rank)]}">'
        f"{MARKS[search.mark(rank)]}</span></li>"
        for rank, text in enumerate(search.found)
    )
    return (
        f'<article>\n<h3>{definition(search.query)}</h3>\n<div class="answers">\n'
        f"<div><h4>Exact</h4><ol>{exact}</ol></div>\n"
        f"<div><h4>From {n_bytes}-byte codes</h4><ol>{found}</ol></div>\n</div>\n</article>"
    )


def definition(text: str) -> str:
    """A line of texts.txt with its word in bold."""
    word, _, meaning = text.partition(": ")
    return f"<strong>{escape(word)}</strong>: {escape(meaning)}"
