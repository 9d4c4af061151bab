"""What a placement decision costs, by size of the cluster.

Google Benchmark's bench/scheduler_bench.cc: the median of several repetitions of each benchmark.
"""

from __future__ import annotations

import json

from harness.programs import BenchError, Context, run as run_program
from harness.record import Record


def run(context: Context) -> list[Record]:
    program = context.program("scheduler_bench")
    repetitions = 3 if context.quick else 7
    context.progress(f"scheduler: {repetitions} repetitions")
    text = run_program(
        [
            str(program),
            "--benchmark_format=json",
            f"--benchmark_repetitions={repetitions}",
            f"--benchmark_min_time={0.05 if context.quick else 0.3}",
        ],
        timeout_s=300 if context.quick else 1800,
    )
    return records(text)


def records(text: str) -> list[Record]:
    """One record per benchmark in Google Benchmark's JSON: CPU time, as no decision ever waits."""
    try:
        benchmarks = json.loads(text)["benchmarks"]
    except (ValueError, KeyError, TypeError) as error:
        raise BenchError(f"scheduler_bench printed no benchmark JSON ({error})") from None
    found = []
    for one in benchmarks:
        if one.get("error_occurred"):
            raise BenchError(
                f"{one['name']}: {one.get('error_message', 'an error without a message')}"
            )
        if one.get("aggregate_name") != "median":
            continue
        note = f"{one['items_per_second'] / 1e6:.3g}M items/s" if "items_per_second" in one else ""
        found.append(
            Record(
                "scheduler",
                one["run_name"],
                one["cpu_time"],
                one["time_unit"],
                "lower",
                one["repetitions"],
                note=note,
            )
        )
    if not found:
        raise BenchError("scheduler_bench measured nothing")
    return found
