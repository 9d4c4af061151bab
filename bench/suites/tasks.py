"""No-op tasks through a local cluster: latency, throughput, Init to first result, a long queue.

bench/tasks_bench.cc, each run in a process and a cluster of its own; medians of the runs.
"""

from __future__ import annotations

import tempfile

from harness.programs import Context, measure
from harness.record import Record, from_measurements, median_by_name


def run(context: Context) -> list[Record]:
    program = str(context.program("tasks_bench"))
    rounds, starts, queued = (1, 3, 100_000) if context.quick else (3, 9, 1_000_000)
    seconds = "--seconds=1" if context.quick else "--seconds=2"

    runs = []
    for index in range(rounds):
        context.progress(f"tasks: latency and throughput, round {index + 1} of {rounds}")
        runs.append(
            measure(
                [program, "--workloads=sync,async,submitters,fallbacks", seconds], timeout_s=300
            )
        )
    context.progress(f"tasks: {starts} starts")
    runs += [measure([program], timeout_s=60) for _ in range(starts)]
    context.progress(f"tasks: {queued:,} tasks in one queue")
    with tempfile.TemporaryDirectory(prefix="muster-bench-") as scratch:
        runs.append(
            measure(
                [
                    program,
                    "--workloads=queued",
                    f"--temp-dir={scratch}",
                    f"--queued-tasks={queued}",
                    "--drain=1",
                ],
                timeout_s=600,
            )
        )
    return from_measurements("tasks", median_by_name(runs))
