"""The benchmark: python bench/run.py [--case PREFIXES] [--quick] [--peers picopq,faiss]

For each case every peer gets a process of its own, held to the same number of threads.
Their calls alternate (A B C A B C ...); a round gives one ratio per peer, and the median,
least and greatest of them are reported. Answers are checked before anything is timed.
A call of a second or more is its own warm-up. The record and the plot go to bench/records.
The exit status is 1 when an answer is wrong or a peer failed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from itertools import count
from statistics import median
from typing import NamedTuple

import data
import report
from cases import CASES, Case
from limits import COST
from worker import Failed, Worker, pinned

PAUSE = 0.02  # seconds before a sample: lets the last peer's spinning threads fall asleep
FIT_SLACK = 1.02  # the first peer's model may be this much worse than the best one
SPARE_CORES = 0.2  # beyond its threads: the clocks' own error


class Pace(NamedTuple):
    least: int  # rounds
    most: int
    seconds: float  # of sampling, after which no round is added to the least


FULL, QUICK = Pace(3, 15, 20.0), Pace(2, 7, 1.0)


def take_rounds(workers: list[Worker], pace: Pace) -> None:
    """Let each worker take samples in turn; a long warm-up is the first round's sample."""
    start = time.perf_counter()
    for n in count(1):
        for worker in workers:
            if len(worker.samples) < n:
                time.sleep(PAUSE)
                worker.samples.append(worker.ask("sample"))
        late = time.perf_counter() - start > pace.seconds
        if n >= pace.most or (n >= pace.least and late):
            return


def result(case: Case, worker: Worker, base: Worker) -> dict:
    """What the record says of one peer; `ratios` compare the base with it."""

    def rates(w: Worker) -> list[float]:
        return [w.case.items(w.rows) / sample["seconds"] for sample in w.samples]

    found = {
        "peer": worker.peer,
        "threads": worker.threads,
        "rows": worker.rows,
        "items_per_second": median(rates(worker)),
        "ratios": [mine / its for mine, its in zip(rates(base), rates(worker))],
        "seconds_per_call": [sample["seconds"] for sample in worker.samples],
        "cores": [round(sample["cores"], 3) for sample in worker.samples],
    }
    found |= worker.first
    if case.op == "hold":
        found["answer"]["bytes_per_code"] = found["held_bytes"] / worker.rows
    return found


def shares(case: Case, found: dict, limits: dict) -> dict:
    """The limit of the machine that binds, and the share of it that was reached."""
    if case.op not in COST or found["threads"] > 1:
        return {}
    limit, cost = COST[case.op](data.DIM[case.data], case.m, case.ks)
    return {"limit": limit, "share": found["items_per_second"] * cost / max(limits[limit])}


def faults(case: Case, results: list[dict]) -> list[str]:
    """What is wrong: an answer, a badly trained first peer, threads that were not asked for."""
    found = []
    for r in results:
        if r["answer"]["wrong"]:
            found.append(f"{r['peer']}: {r['answer']['wrong']} wrong items in the answer")
        if median(r["cores"]) > r["threads"] + SPARE_CORES:
            found.append(f"{r['peer']}: {median(r['cores']):.1f} cores, held to {r['threads']}")
    if case.op in ("fit", "fit_default", "opq", "opq_short"):
        slack = 1.0 if case.op == "opq_short" else FIT_SLACK
        first, best = results[0], min(results, key=lambda r: r["answer"]["error"])
        if first["answer"]["error"] > slack * best["answer"]["error"]:
            found.append(f"{first['peer']}: error more than {slack} times {best['peer']}'s")
    return found


def run_case(case: Case, quick: bool, peers: list[str], limits: dict) -> dict:
    with ExitStack() as stack:
        workers = []
        for peer, threads in case.contestants:
            if peer in peers:
                workers.append(Worker(peer, threads, case.of(peer), case.size(quick, peer)))
                stack.callback(workers[-1].stop)
        for worker in workers:
            worker.start()
        take_rounds(workers, QUICK if quick else FULL)
    results = [result(case, worker, workers[0]) for worker in workers]
    results = [found | shares(case, found, limits) for found in results]
    return {
        "case": case.name,
        "reason": case.reason,
        "settings": {
            "op": case.op,
            "bytes": case.bytes,
            "ks": case.ks,
            "k": case.k,
            "batch": case.batch or case.nq,
        },
        "results": results,
        "faults": faults(case, results),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--case", default="", help="only the cases whose name starts with one of these, by commas")
    parser.add_argument("--quick", action="store_true", help="fewer rows, cases and rounds")
    parser.add_argument("--peers", default="picopq,nanopq,faiss,fastscan,scann,encoding")
    parser.add_argument("--name", help="of the record; by default the date, mode and case")
    args = parser.parse_args()
    peers, cores = args.peers.split(","), len(os.sched_getaffinity(0))
    cases = [
        case
        for case in CASES
        if case.name.startswith(tuple(args.case.split(",")))
        and case.size(args.quick)
        and any(peer in peers for peer, _ in case.contestants)
        and all(threads <= cores for _, threads in case.contestants)
    ]
    if not cases:
        parser.error(f"no such case; there are {' '.join(case.name for case in CASES)}")

    print("building data where it is missing", flush=True)
    for case in cases:
        data.inputs(case, case.size(args.quick))
    limits = json.loads(
        subprocess.check_output([sys.executable, report.LIMITS], env=os.environ | pinned(1))
    )
    record = report.header(args.quick, {case.data for case in cases})
    record |= {"limits_per_second": limits, "cases": []}
    print(report.TABLE_HEAD)
    failed = False
    for case in cases:
        try:
            measured = run_case(case, args.quick, peers, limits)
        except Failed as error:
            measured = {"case": case.name, "results": [], "faults": [str(error)]}
        print(report.table(measured), flush=True)
        record["cases"].append(measured)
        failed |= bool(measured["faults"])
    report.save(record, args.name or report.name(args.quick, args.case))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
