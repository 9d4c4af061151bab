"""Placement groups of 2-72 GPUs placed and removed on 640 nodes, by strategy.

bench/groups_bench.cc: each line it prints is a strategy with the groups placed and removed in a
second, a figure for each repetition. A group that was placed in part fails the bench.
"""

from __future__ import annotations

import json
import statistics

from harness.programs import BenchError, Context, run as run_program
from harness.record import Record


def run(context: Context) -> list[Record]:
    program = context.program("groups_bench")
    repetitions = 3 if context.quick else 7
    context.progress(f"groups: {repetitions} repetitions")
    text = run_program(
        [str(program), str(repetitions), str(10_000 if context.quick else 50_000)], timeout_s=900
    )
    return records(text)


def records(text: str) -> list[Record]:
    """One record for each strategy."""
    found = []
    for line in text.splitlines():
        try:
            one = json.loads(line)
            rates = one["groups_per_s"]
        except (ValueError, KeyError, TypeError) as error:
            raise BenchError(f"groups_bench printed {line!r} ({error})") from None
        if one["partial"] != 0:
            raise BenchError(f"{one['strategy']}: {one['partial']} groups were placed in part")
        found.append(
            Record(
                "groups",
                one["strategy"],
                statistics.median(rates),
                "groups/s",
                "higher",
                len(rates),
                note=f"640 nodes, 2-72 GPUs; {one['placed']} of {one['asked']} had room",
            )
        )
    if not found:
        raise BenchError("groups_bench measured nothing")
    return found
