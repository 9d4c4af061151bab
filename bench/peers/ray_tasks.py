"""bench/workloads.h in Ray's Python API: the same tasks in the same numbers, the same output.

The process leaves its cluster running: whoever started it ends it, because `ray stop` would end
every Ray on the machine.
"""

import argparse
import json
import os
import sys
import threading
import time

import ray

NOWHERE = {"ray.io/accelerator-type": "H100"}
ELSEWHERE = {"ray.io/accelerator-type": "A100"}
ANYWHERE = {"ray.io/accelerator-type": "!none"}


@ray.remote
def noop():
    return 0


@ray.remote
def hold(path):
    while not os.path.exists(path):
        time.sleep(0.001)
    return 0


def report(name, value, unit, better, samples, note=""):
    fields = {"name": name, "value": value, "unit": unit, "better": better}
    print(json.dumps({**fields, "samples": samples, "note": note}), flush=True)


def percentile(values, fraction):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(fraction * len(ordered)))]


def batch_note(flags):
    return f"batches of {flags.batch}"


def run_batch(function, count):
    begin = time.perf_counter()
    ray.get([function.remote() for _ in range(count)])
    return count / (time.perf_counter() - begin)


def run_sync(flags):
    for _ in range(200):
        ray.get(noop.remote())
    microseconds = []
    deadline = time.perf_counter() + flags.seconds_max
    while len(microseconds) < flags.sync_tasks and time.perf_counter() < deadline:
        begin = time.perf_counter()
        ray.get(noop.remote())
        microseconds.append((time.perf_counter() - begin) * 1e6)
    report("sync p50", percentile(microseconds, 0.50), "us", "lower", len(microseconds))
    report("sync p99", percentile(microseconds, 0.99), "us", "lower", len(microseconds))


def measure_batches(name, function, flags):
    run_batch(function, flags.batch)
    rates = []
    begin = time.perf_counter()
    while len(rates) < 3 or time.perf_counter() - begin < flags.seconds:
        rates.append(run_batch(function, flags.batch))
    report(name, percentile(rates, 0.50), "tasks/s", "higher", len(rates), batch_note(flags))


def run_async(flags):
    measure_batches("async", noop, flags)


def run_fallbacks(flags):
    options = noop.options(
        label_selector=NOWHERE,
        fallback_strategy=[{"label_selector": ELSEWHERE}, {"label_selector": ANYWHERE}],
    )
    measure_batches("async, two fallbacks", options, flags)


def run_submitters(flags):
    run_batch(noop, flags.batch)
    begin = time.perf_counter()
    done = [0] * 4

    def submit(index):
        while done[index] == 0 or time.perf_counter() - begin < flags.seconds:
            run_batch(noop, flags.batch)
            done[index] += flags.batch

    threads = [threading.Thread(target=submit, args=(index,)) for index in range(len(done))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rate = sum(done) / (time.perf_counter() - begin)
    batches = sum(done) // flags.batch
    report("async, four submitters", rate, "tasks/s", "higher", batches, batch_note(flags))


def resident_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def run_queued(flags):
    gate = os.path.join(flags.temp_dir, "gate")
    holders = [hold.remote(gate) for _ in range(len(os.sched_getaffinity(0)))]
    bytes_before = resident_bytes()
    begin = time.perf_counter()
    refs = []
    while not refs or (
        len(refs) < flags.queued_tasks and time.perf_counter() - begin < flags.seconds_max
    ):
        refs.extend(noop.remote() for _ in range(1000))
    seconds = time.perf_counter() - begin
    grown = resident_bytes() - bytes_before
    enough = len(refs) >= flags.queued_tasks
    note = f"{len(refs)} tasks" + (" in one queue" if enough else ", no more in the time given")
    report("queueing", len(refs) / seconds, "tasks/s", "higher", len(refs), note)
    memory_note = "resident, of the driver; " + note
    report("memory per queued task", grown / len(refs), "bytes", "lower", len(refs), memory_note)
    with open(gate, "w", encoding="utf-8"):
        pass
    ray.get(holders)


WORKLOADS = {
    "sync": run_sync,
    "async": run_async,
    "submitters": run_submitters,
    "fallbacks": run_fallbacks,
    "queued": run_queued,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workloads", default="", help="some of: " + ",".join(WORKLOADS))
    parser.add_argument("--temp-dir", required=True)
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--sync-tasks", type=int, default=2000)
    parser.add_argument("--queued-tasks", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=2, help="per throughput, at least")
    parser.add_argument("--seconds-max", type=float, default=60, help="per latency, at most")
    flags = parser.parse_args()

    begin = time.perf_counter()
    ray.init(
        num_cpus=flags.cpus,
        include_dashboard=False,
        object_store_memory=200_000_000,
        log_to_driver=False,
        _temp_dir=flags.temp_dir,
    )
    ray.get(noop.remote())
    report("Init to first result", (time.perf_counter() - begin) * 1e3, "ms", "lower", 1)
    for name in filter(None, flags.workloads.split(",")):
        WORKLOADS[name](flags)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
