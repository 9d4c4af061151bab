"""Building and running the programs that measure.

Every process that a program leaves behind becomes a child of the harness (PR_SET_CHILD_SUBREAPER),
so what is ended after a run is exactly what that run started, daemons included, and nothing else.
"""

from __future__ import annotations

import ctypes
import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from typing import Callable

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "release"
PR_SET_CHILD_SUBREAPER = 36
LEAVE_WITHIN_S = 6  # An executor has 5 s to notice that its driver is gone.
KILL_AFTER_S = 5  # SIGTERM comes first.


class BenchError(Exception):
    """The bench cannot give its figures; the message says why and what would help."""


@dataclasses.dataclass(frozen=True)
class Context:
    """What a bench is told."""

    quick: bool = False
    build: bool = True
    only_peer: bool = False
    data: str | None = None  # A folder of traces.

    def progress(self, text: str) -> None:
        print(f"bench: {text}", file=sys.stderr, flush=True)

    def program(self, target: str) -> pathlib.Path:
        """The release build's program of that name, built first unless --no-build."""
        path = BUILD / "bin" / target
        if self.build:
            self.progress(f"building {target} (release)")
            command = ["scripts/build", "release", target]
            status = subprocess.run(
                command, cwd=ROOT, stdout=sys.stderr.fileno(), check=False
            ).returncode
            if status != 0:
                raise BenchError(
                    f"{target} does not build: `{' '.join(command)}` ended with {status}"
                )
        if not path.exists():
            raise BenchError(
                f"{path.relative_to(ROOT)} is missing: build it with scripts/build release {target}"
            )
        return path


def clean_environment(**more: str) -> dict[str, str]:
    """The caller's environment, less what would lead a program to a running cluster."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("RAY_", "MUSTER_"))
    }
    return {**kept, **more}


def run(
    command: list[str],
    timeout_s: float,
    environment: dict[str, str] | None = None,
    cpus: set[int] | None = None,
    leaves_daemons: bool = False,
) -> str:
    """Runs to the end, ends what is left of it, and returns its stdout.

    Raises BenchError when it fails or takes longer, with the last lines of its stderr. A program
    that leaves processes behind for long is named on stderr, unless `leaves_daemons`.
    """
    adopt_orphans()
    pin: Callable[[], None] | None = (lambda: os.sched_setaffinity(0, cpus)) if cpus else None
    # Files, not pipes: a daemon that keeps a pipe open would keep us waiting for its end.
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+", errors="replace") as err:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=environment or clean_environment(),
                start_new_session=True,
                preexec_fn=pin,
            )
        except OSError as error:
            raise BenchError(f"cannot start {command[0]}: {error.strerror}") from None
        try:
            status = process.wait(timeout_s)
            if status == 0 and not leaves_daemons:
                _warn_of_leftovers(command[0])
        except subprocess.TimeoutExpired:
            status = None
        finally:
            end_descendants()
            process.wait()
        out.seek(0)
        err.seek(0)
        if status == 0:
            return out.read()
        how = f"did not end within {timeout_s:.0f} s" if status is None else _describe(status)
        tail = "".join(f"\n    {line}" for line in err.read().splitlines()[-8:])
        raise BenchError(
            f"{' '.join(command)}\n    {how}{tail and '; the end of its stderr:' + tail}"
        )


def measure(command: list[str], timeout_s: float, **how) -> list[dict]:
    """Runs a program that prints measurements as bench/workloads.h describes."""
    measurements = parse_measurements(run(command, timeout_s, **how))
    if not measurements:
        raise BenchError(f"{' '.join(command)}\n    measured nothing")
    return measurements


def parse_measurements(text: str) -> list[dict]:
    """The lines that are JSON objects with a name; libraries print what they like on stdout."""
    measurements = []
    for line in text.splitlines():
        if not line.startswith('{"name"'):
            continue
        try:
            one = json.loads(line)
            number = float(one["value"])
            measurements.append(
                {
                    "name": str(one["name"]),
                    "value": number,
                    "unit": str(one["unit"]),
                    "better": str(one["better"]),
                    "samples": int(one["samples"]),
                    "note": str(one["note"]),
                }
            )
        except (ValueError, KeyError, TypeError) as error:
            raise BenchError(f"not a measurement: {line} ({error})") from None
    return measurements


def _describe(status: int) -> str:
    if status >= 0:
        return f"ended with {status}"
    return f"was killed by signal {-status} ({signal.strsignal(-status)})"


def adopt_orphans() -> None:
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants() -> list[int]:
    """All processes below this one, parents first.

    One that starts or ends meanwhile may be missed. A zombie may still have threads, and children
    of theirs, so it counts until it is collected.
    """
    children: dict[int, list[int]] = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            stat = pathlib.Path("/proc", entry, "stat").read_text(errors="replace")
        except OSError:  # It has just ended.
            continue
        parent = stat.rpartition(")")[2].split()[1]
        children.setdefault(int(parent), []).append(int(entry))
    found: list[int] = []
    waiting = [os.getpid()]
    while waiting:
        below = children.get(waiting.pop(0), [])
        found += below
        waiting += below
    return found


def any_left() -> bool:
    """Whether there is any process below this one, after collecting the children that have ended.

    Exact, as the kernel hands every orphan below us to us. It also collects a Popen's child, which
    then takes its status for 0, so a caller waits for its own first.
    """
    try:
        while os.waitpid(-1, os.WNOHANG)[0] != 0:
            pass
    except ChildProcessError:
        return False
    return True


def _warn_of_leftovers(program: str) -> None:
    begin = time.monotonic()
    while any_left() and time.monotonic() - begin < LEAVE_WITHIN_S:
        time.sleep(0.05)
    if any_left():
        count = len(descendants())
        print(f"bench: {program} left {count} process(es) behind; ending them", file=sys.stderr)


def end_descendants() -> None:
    """SIGTERM, and after a while SIGKILL, until none is left. Ctrl-C and SIGTERM wait for that."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        begin = time.monotonic()
        signalled: set[int] = set()
        while any_left():
            kill = time.monotonic() - begin > KILL_AFTER_S
            for pid in descendants():
                if kill or pid not in signalled:
                    signalled.add(pid)
                    try:
                        os.kill(pid, signal.SIGKILL if kill else signal.SIGTERM)
                    except ProcessLookupError:
                        pass
            time.sleep(0.02)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
