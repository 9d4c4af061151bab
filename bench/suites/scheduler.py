"""What a placement decision costs, by size of the cluster, beside a naive scan.

Google Benchmark's bench/scheduler_bench.cc. Decisions are timed one by one there: their percentiles
are counters. Everything else is the median of several repetitions.
"""

from __future__ import annotations

import json

from harness.programs import BenchError, Context, run as run_program
from harness.record import Record

# Counters that are results of their own: unit, and which way is better.
COUNTERS = {
    "request_p50": ("ns", "lower"),
    "request_p99": ("ns", "lower"),
    "finish_p50": ("ns", "lower"),
    "finish_p99": ("ns", "lower"),
    "change_p50": ("ns", "lower"),
    "bytes_per_node": ("bytes", "lower"),
    "bytes_per_request": ("bytes", "lower"),
}
NAIVE = "BM_NaiveScan/nodes:"


def run(context: Context) -> list[Record]:
    program = context.program("scheduler_bench")
    repetitions = 1 if context.quick else 3
    context.progress(f"scheduler: {repetitions} repetitions")
    command = [
        str(program),
        "--benchmark_format=json",
        f"--benchmark_repetitions={repetitions}",
        f"--benchmark_min_time={0.05 if context.quick else 0.3}",
    ]
    if context.quick:  # Without the largest clusters, which take long to fill, and without changes.
        command.append("--benchmark_filter=nodes:1?000?/|nodes:10+$|Queue|Join|Blocked|Selector")
    return records(run_program(command, timeout_s=300 if context.quick else 3600))


def records(text: str) -> list[Record]:
    """One record per benchmark and counter, from Google Benchmark's JSON."""
    try:
        benchmarks = json.loads(text)["benchmarks"]
    except (ValueError, KeyError, TypeError) as error:
        raise BenchError(f"scheduler_bench printed no benchmark JSON ({error})") from None
    for one in benchmarks:
        if one.get("error_occurred"):
            raise BenchError(
                f"{one['name']}: {one.get('error_message', 'an error without a message')}"
            )
    # With one repetition there are no aggregates.
    medians = [one for one in benchmarks if one.get("aggregate_name") == "median"]
    medians = medians or [one for one in benchmarks if one.get("run_type") == "iteration"]
    naive = {
        one["run_name"][len(NAIVE) :]: one["cpu_time"]
        for one in medians
        if one["run_name"].startswith(NAIVE)
    }
    found = [record for one in medians for record in _records_of(one, naive)]
    if not found:
        raise BenchError("scheduler_bench measured nothing")
    return found


def _records_of(one: dict, naive: dict[str, float]) -> list[Record]:
    name = one["run_name"].replace("/manual_time", "").replace("/change_every:0", "")
    name = "/".join(part for part in name.split("/") if not part.startswith("iterations:"))
    note = f"{one['items_per_second'] / 1e6:.3g}M items/s" if "items_per_second" in one else ""
    repetitions = one.get("repetitions", 1)
    found = []
    for counter, (unit, better) in COUNTERS.items():
        if counter not in one:
            continue
        nodes = name.partition("nodes:")[2].partition("/")[0]
        beside = counter == "request_p50" and nodes in naive
        found.append(
            Record(
                "scheduler",
                f"{name} {counter.replace('_', ' ')}",
                one[counter],
                unit,
                better,
                repetitions,
                peer="naive scan" if beside else "",
                peer_value=naive[nodes] if beside else None,
                note=note,
            )
        )
    if "request_p50" not in one:
        found.append(
            Record(
                "scheduler",
                name,
                one["cpu_time"],
                one["time_unit"],
                "lower",
                repetitions,
                note=note,
            )
        )
    return found
