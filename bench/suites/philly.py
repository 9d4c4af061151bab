"""Queueing delay, utilisation and fairness of each policy, over a trace of jobs.

bench/philly_bench.cc replays it in simulated time through the scheduler, and says what each figure
is. The peer of every policy is strict FIFO in the same run.
"""

from __future__ import annotations

import json
import pathlib

from harness.programs import BenchError, Context, run as run_program
from harness.record import Record

PEER = "fifo"
POLICIES = ["fifo-greedy", "fifo-easy", "fifo-conservative", "fair", "fair-greedy", "fair-easy", "fair-conservative", "fair-slice-1h"]
QUICK = ["fifo-greedy", "fair-greedy"]


def run(context: Context) -> list[Record]:
    program = context.program("philly_bench")
    trace = find_trace(context)
    found: list[Record] = []
    for load in [0.95] if context.quick else [0.8, 0.95, 1.05]:
        fifo: dict | None = None
        for policy in [PEER] + (QUICK if context.quick and trace else POLICIES):
            context.progress(f"philly: {policy} at load {load}")
            command = [str(program), "--load", str(load), "--policy", policy]
            command += ["--data", str(trace)] if trace else []
            report = parse(run_program(command, timeout_s=600))
            fifo = fifo or report
            found += records(report, fifo)
    return found


def find_trace(context: Context) -> pathlib.Path | None:
    """philly.csv of the folder given, or of its folder philly/."""
    if not context.data:
        context.progress("philly: no --data, so a small made-up trace")
        return None
    folder = pathlib.Path(context.data)
    for path in (folder / "philly.csv", folder / "philly" / "philly.csv"):
        if path.is_file():
            return path
    context.progress(f"philly: no philly.csv in {folder}, so a small made-up trace")
    return None


def parse(text: str) -> dict:
    try:
        return json.loads(text)
    except ValueError as error:
        raise BenchError(f"philly_bench printed no JSON ({error})") from None


def records(report: dict, fifo: dict) -> list[Record]:
    name = f"{report['policy']} at {report['load']}"
    is_peer = report["policy"] == PEER
    cost = f"{report['us_per_event']:.3g} us an event, {report['gpus']} GPUs"
    recalls = f", {report['recalls']} recalls" if report["recalls"] else ""

    def one(what: str, key: str, unit: str, better: str, note: str = "") -> Record:
        peer = {} if is_peer else {"peer": PEER, "peer_value": fifo[key]}
        return Record("philly", f"{name}: {what}", report[key], unit, better, report["jobs"], note=note, **peer)

    return [
        one("delay p50", "p50_s", "s", "lower", cost + recalls),
        one("delay p95", "p95_s", "s", "lower"),
        one("delay p99", "p99_s", "s", "lower"),
        one("utilisation", "utilisation", "of 1", "higher"),
        one("fairness gap, worst", "gap_max", "of 1", "lower"),
        one("fairness gap, mean", "gap_mean", "of 1", "lower"),
    ]
