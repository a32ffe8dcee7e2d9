"""The record of a run: what it ran on, the table, the JSON file and the plot."""

from __future__ import annotations

import json
import platform
import subprocess
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

import data

RECORDS = data.ROOT / "bench" / "records"
LIMITS = data.ROOT / "bench" / "limits.py"
PACKAGES = "picopq nanopq faiss-cpu scann numpy scipy opencv-python-headless scikit-image".split()
FLAGS = "fma avx2 avx512f avx512bw avx512vl avx512vbmi avx512_vnni asimd sve".split()
COLOURS = {
    "picopq": "#1b6ca8",
    "nanopq": "#e08b27",
    "faiss": "#4c9a5b",
    "fastscan": "#8fbf6a",
    "scann": "#b5483a",
    "encoding": "#7f9fb8",
}
SEARCHES = {
    "picopq": "picopq",
    "faiss": "Faiss IndexPQ",
    "fastscan": "Faiss fast scan",
    "scann": "ScaNN",
}
LINES = {16: "s--", 256: "o-"}
QUIET = 0.9  # cores a single thread gets at least when nothing else runs
METHOD = {
    "ratios": "rate of the first peer over this peer's, one pair per round, peers in turn",
    "rows": "nanopq encodes a twentieth of the rows and searches an index for a twentieth of the "
    "queries, because it is slow: rates are compared",
    "memory_bytes": "VmHWM of the first call in a fresh process, less what was resident before, "
    "less the answer; below 1 MB it is only the grain of the count",
    "held_bytes": "what stays resident after the first call, with its answer",
    "share": "of the best rate seen of the limit that is named (limits_per_second)",
    "error": "mean squared reconstruction error per vector",
    "different": "codes naming another codeword at the same distance up to rounding, or ids at "
    "another rank than a plain scan in float64 gives them",
    "10-recall@10": "share of the ten nearest vectors that are among the first ten found",
    "1-recall@10": "share of queries whose nearest vector is among the first ten found",
}


def commit() -> str | None:
    """The commit, with "-dirty" after it where tracked files had changes."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=data.ROOT)
    return done.stdout.strip() or None


def installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def processor() -> dict:
    lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    fields = dict(map(str.strip, line.split(":", 1)) for line in lines if ":" in line)
    flags = fields.get("flags", fields.get("Features", "")).split()
    return {
        "model": fields.get("model name", platform.machine()),
        "family": fields.get("cpu family"),
        "model_number": fields.get("model"),
        "instruction_sets": [flag for flag in FLAGS if flag in flags],
    }


def header(quick: bool, used: set[str]) -> dict:
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": commit(),
        "mode": "quick" if quick else "full",
        "processor": processor(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {package: installed(package) for package in PACKAGES},
        "method": METHOD,
        "data": {name: data.describe(name) for name in sorted(used)},
    }


def scaled(value: float, base: int = 1000) -> str:
    for unit in " kMG":
        if value < base or unit == "G":
            return f"{value:.3g} {unit}".strip()
        value /= base


def label(result: dict) -> str:
    return result["peer"] + (f", {result['threads']} threads" if result["threads"] > 1 else "")


TABLE_HEAD = (
    f"{'':21}{'items/s':>9}{'s/call':>10}{'memory':>9}{'share':>7}"
    f"{'first peer is faster by [least, greatest]':>44}   answer"
)


def table(case: dict) -> str:
    lines = [f"{case['case']}: {case.get('reason', '')}"]
    for i, r in enumerate(case["results"]):
        ratios = r["ratios"]
        ratio = f"{median(ratios):.2f}x [{min(ratios):.2f}, {max(ratios):.2f}]" if i else ""
        share = f"{r['share']:.0%}" if "share" in r else ""
        answer = ", ".join(f"{k} {v:.6g}" for k, v in r["answer"].items())
        lines.append(
            f"  {label(r):19}{scaled(r['items_per_second']):>9}"
            f"{median(r['seconds_per_call']):>10.3g}"
            f"{scaled(r['memory_bytes'], 1024):>8}B{share:>7}{ratio:>44}   {answer}"
        )
        if r["threads"] == 1 and median(r["cores"]) < QUIET:
            lines.append(f"    not quiet: {r['peer']} had {median(r['cores']):.0%} of its core")
    return "\n".join(lines + [f"  WRONG: {fault}" for fault in case["faults"]])


def name(quick: bool, case: str) -> str:
    day = datetime.now(timezone.utc).strftime("%Y-%m-%d")
    return "-".join(part for part in (day, "quick" if quick else "full", case) if part)


def pyplot():
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.fonttype"] = "none"  # text stays text
    import matplotlib.pyplot as plt

    return plt


def title(record: dict) -> str:
    return f"{record['processor']['model']}, {record['mode']} mode, {record['date'][:10]}"


def plot(record: dict, path: Path) -> None:
    """One bar per case and peer: the median ratio, with the least and greatest as whiskers."""
    plt = pyplot()
    rows, places, ticks = [], [], []
    for case in record["cases"]:
        start = places[-1] + 1.6 if places else 0.0
        others = case["results"][1:]
        rows += others
        places += [start + i for i in range(len(others))]
        ticks += [(start, case["case"])] if others else []
    middle = [median(r["ratios"]) for r in rows]
    low = [m - min(r["ratios"]) for m, r in zip(middle, rows)]
    high = [max(r["ratios"]) - m for m, r in zip(middle, rows)]
    figure, axes = plt.subplots(figsize=(9, 1.2 + 0.2 * places[-1]), layout="constrained")
    axes.barh(
        places, [m - 1 for m in middle], left=1, height=0.85, xerr=[low, high],
        color=[COLOURS[r["peer"]] for r in rows],
    )  # fmt: skip
    for place, r, m in zip(places, rows, middle):
        axes.text(max(*r["ratios"], 1) * 1.06, place, f"{m:.3g}x {label(r)}", va="center", size=7)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}x")
    axes.set_xlim(right=max(m + h for m, h in zip(middle, high)) * 3)
    axes.set_ylim(-1, places[-1] + 1)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks(*zip(*ticks), fontsize=8)
    axes.invert_yaxis()
    first = next(case["results"][0]["peer"] for case in record["cases"] if case["results"])
    axes.set_xlabel(f"speed of {first} over each peer's (above 1: {first} is faster)")
    axes.set_title(title(record), fontsize=9)
    figure.savefig(path)


def recall_points(record: dict) -> dict:
    """(bytes, recall, queries per second) by (batch, peer, ks): all that one thread answered
    with k = 10."""
    points = {}
    for case in record["cases"]:
        settings = case.get("settings", {})
        if settings.get("op") != "index" or settings["k"] != 10 or "two-threads" in case["case"]:
            continue
        for r in case["results"]:
            if r["peer"] == "nanopq":  # the same answers as IndexPQ, far below
                continue
            series = points.setdefault((settings["batch"], r["peer"], settings["ks"]), [])
            series.append((settings["bytes"], r["answer"]["10-recall@10"], r["items_per_second"]))
    return points


def plot_recall(record: dict, path: Path) -> None:
    """Recall against speed, a line for each peer, a point for each size of its codes."""
    plt = pyplot()
    points = recall_points(record)
    batches = sorted({batch for batch, _, _ in points})
    figure, panels = plt.subplots(
        1, len(batches), figsize=(1 + 4.5 * len(batches), 4.5), layout="constrained",
        sharex=True, sharey=True, squeeze=False,
    )  # fmt: skip
    for axes, batch in zip(panels[0], batches):
        for (its_batch, peer, ks), series in points.items():
            if its_batch != batch:
                continue
            sizes, recalls, speeds = zip(*sorted(series))
            axes.plot(
                recalls, speeds, LINES[ks], color=COLOURS[peer],
                label=f"{SEARCHES[peer]}, {ks.bit_length() - 1}-bit",
            )  # fmt: skip
            for size, recall, speed in zip(sizes, recalls, speeds):
                axes.annotate(
                    f"{size} B", (recall, speed), xytext=(4, 4),
                    textcoords="offset points", fontsize=7,
                )  # fmt: skip
        axes.set_yscale("log")
        axes.grid(alpha=0.3)
        axes.set_xlabel("10-recall@10")
        axes.set_title("one query a call" if batch == 1 else f"{batch} queries a call", fontsize=9)
    panels[0][0].set_ylabel("queries per second, one thread")
    panels[0][0].legend(fontsize=7)
    figure.suptitle(title(record), fontsize=9)
    figure.savefig(path)


def save(record: dict, name: str) -> None:
    RECORDS.mkdir(parents=True, exist_ok=True)
    path = RECORDS / f"{name}.json"
    path.write_text(json.dumps(record, indent=1, default=lambda number: number.item()) + "\n")
    if any(case["results"][1:] for case in record["cases"]):
        plot(record, path.with_suffix(".svg"))
    if recall_points(record):
        plot_recall(record, path.with_name(f"{name}-recall.svg"))
    print(f"record: {path.relative_to(data.ROOT)}")
