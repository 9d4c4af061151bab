"""The workloads of `tasks` in muster and in Ray's Python and C++ APIs, in turns.

Every turn is a process and a cluster of its own on the same two CPUs; the turns alternate (muster,
Ray Python, Ray C++, muster, ...), so that a change of the machine's speed meets all of them.
Medians of the turns.
"""

from __future__ import annotations

import tempfile
from typing import Callable

from harness.programs import Context, measure
from harness.record import Record, median_by_name, side_by_side
from peers.ray_peer import VERSION, Ray, two_cpus

PYTHON, CPP, MUSTER = f"Ray {VERSION} Python", f"Ray {VERSION} C++", "muster"
Turn = Callable[[list[str]], list[dict]]


def run(context: Context) -> list[Record]:
    systems: dict[str, Turn] = {}
    if not context.only_peer:
        program = str(context.program("tasks_bench"))
        systems[MUSTER] = lambda flags: _measure_muster(program, flags)
    ray = Ray(context)
    systems[PYTHON] = ray.measure_python
    systems[CPP] = ray.measure_cpp

    rounds = 2 if context.quick else 5
    seconds, sync_tasks, queued = (1, 500, 20_000) if context.quick else (2, 2000, 100_000)
    sizes = [f"--seconds={seconds}", f"--sync-tasks={sync_tasks}", f"--queued-tasks={queued}"]
    runs: dict[str, list[list[dict]]] = {system: [] for system in systems}
    for index in range(rounds):
        for system, turn in systems.items():
            context.progress(f"peers: {system}, round {index + 1} of {rounds}")
            # Ray's C++ API has no label selectors.
            fallbacks = "" if system == CPP else ",fallbacks"
            runs[system].append(turn([f"--workloads=sync,async,submitters{fallbacks}", *sizes]))
    for system, turn in systems.items():
        context.progress(f"peers: {system}, {queued:,} tasks in one queue")
        # Its first measurement is Init's: one more sample.
        runs[system].append(turn(["--workloads=queued", *sizes]))

    medians = {system: median_by_name(of_system) for system, of_system in runs.items()}
    ours = medians.get(MUSTER, {})
    return [
        record
        for system in (PYTHON, CPP)
        for record in side_by_side("peers", ours, system, medians[system])
    ]


def _measure_muster(program: str, flags: list[str]) -> list[dict]:
    with tempfile.TemporaryDirectory(prefix="muster-bench-") as scratch:
        return measure([program, *flags, f"--temp-dir={scratch}"], timeout_s=600, cpus=two_cpus())
