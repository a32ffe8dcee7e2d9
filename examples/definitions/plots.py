"""The two plots of the page, as SVG to be set inside HTML."""

import io
import re

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from results import Findings

# Colours stand in for variables of the page's style sheet, so that the plots follow its light
# and its dark palette.
VARIABLES = {
    "#a00001": "ink",
    "#a00002": "soft",
    "#a00003": "line",
    "#a00004": "page",
    "#a00005": "pq",
    "#a00006": "opq",
}
COLOURS = {variable: colour for colour, variable in VARIABLES.items()}

# Dashes and shapes tell the methods apart without colour.
LOOKS = {
    "PQ": {"color": COLOURS["pq"], "marker": "o", "linestyle": "--"},
    "OPQ": {"color": COLOURS["opq"], "marker": "s", "linestyle": "-"},
}

STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "picopq",  # the same findings give the same ids
    "font.size": 9,
    "text.color": COLOURS["ink"],
    "axes.labelcolor": COLOURS["ink"],
    "axes.edgecolor": COLOURS["line"],
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": COLOURS["line"],
    "grid.linewidth": 0.6,
    "xtick.color": COLOURS["line"],
    "xtick.labelcolor": COLOURS["soft"],
    "ytick.color": COLOURS["line"],
    "ytick.labelcolor": COLOURS["soft"],
    "lines.markersize": 5,
    "legend.frameon": False,
}


def recall(findings: Findings) -> str:
    """Recall@1 and recall@10 of both methods against bytes per vector."""
    with matplotlib.rc_context(STYLE):
        figure, axes = canvas()
        for method, look in LOOKS.items():
            rows = [r for r in findings.results if r.method == method]
            sizes = [r.n_bytes for r in rows]
            axes.plot(sizes, [r.recall_10 for r in rows], label=f"{method}, recall@10", **look)
            hollow = look | {"markerfacecolor": COLOURS["page"]}
            axes.plot(sizes, [r.recall_1 for r in rows], label=f"{method}, recall@1", **hollow)
        axes.set_xscale("log", base=2)
        axes.set_xticks(sizes, map(str, sizes))
        axes.set_xlabel("bytes per vector (log scale)")
        axes.set_ylim(0, 1.03)
        axes.set_ylabel("recall (share of queries)")
        axes.minorticks_off()
        axes.legend(loc="lower right")
        values = "; ".join(
            f"{r.method} {r.n_bytes} bytes: {r.recall_1:.3f} and {r.recall_10:.3f}"
            for r in findings.results
        )
        return svg(
            figure, "recall", "Recall against bytes per vector", f"Recall@1 and @10. {values}."
        )


def error(findings: Findings) -> str:
    """Error of every model at each of its training steps."""
    with matplotlib.rc_context(STYLE):
        figure, axes = canvas()
        for result in findings.results:
            steps = range(1, len(result.losses) + 1)
            axes.plot(steps, result.losses, markevery=[-1], **LOOKS[result.method])
            if result.method == "OPQ":
                axes.annotate(
                    f"{result.n_bytes} bytes",
                    (steps[-1], result.losses[-1]),
                    xytext=(7, 0),
                    textcoords="offset points",
                    va="center",
                )
        axes.legend(axes.lines[:: len(axes.lines) // 2], LOOKS, loc="lower left")
        axes.set_yscale("log")
        axes.set_yticks([0.05, 0.1, 0.2, 0.5, 1], ["0.05", "0.1", "0.2", "0.5", "1"])
        axes.set_xlabel("training step")
        axes.set_ylabel("error (share of the variance, log scale)")
        axes.minorticks_off()
        values = "; ".join(
            f"{r.method} {r.n_bytes} bytes: {r.losses[0]:.3f} to {r.losses[-1]:.3f}"
            for r in findings.results
        )
        return svg(figure, "error", "Error at each training step", f"First to last step. {values}.")


def canvas() -> tuple[Figure, Axes]:
    """An empty figure, in points 360 by 281, with one set of axes."""
    figure = Figure(figsize=(5, 3.9), layout="constrained")
    return figure, figure.subplots()


def svg(figure: Figure, name: str, title: str, description: str) -> str:
    """The figure as an svg element whose ids begin with name."""
    drawing = io.StringIO()
    no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(drawing, format="svg", transparent=True, metadata=no_metadata)
    # The opening tag is replaced: it fixes the size, and what precedes it is XML, not HTML.
    content = re.split(r"<svg[^>]*>", drawing.getvalue(), maxsplit=1)[1]
    for colour, variable in VARIABLES.items():
        content = content.replace(colour, f"var(--{variable})")
    content = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", content)
    width, height = 72 * figure.get_size_inches()
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" '
        f'aria-labelledby="{name}-title" aria-describedby="{name}-about">'
        f'<title id="{name}-title">{title}</title>'
        f'<desc id="{name}-about">{description}</desc>{content}'
    )
