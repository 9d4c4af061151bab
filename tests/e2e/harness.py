"""Real processes for the end-to-end tests: a head, workers and drivers that a test may stop, kill and watch.

Every process is a child started here and ended by its pid; ports are picked by the kernel; every wait is bounded.
The programs are those of the build that MUSTER_BIN names.
"""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

BIN = pathlib.Path(os.environ.get("MUSTER_BIN", "build/dev/bin")).resolve()
PATIENCE = 40.0


def wait_until(condition, what, patience=PATIENCE):
    """What `condition` gives once it is true; fails the test, saying `what`, when that takes too long."""
    deadline = time.monotonic() + patience
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {patience:.0f} s: {what}")
        time.sleep(0.02)


def children_of(pid):
    """The pids of a process's children, as /proc has them now."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text()
        except OSError:
            continue
        fields = stat[stat.rindex(")") + 2 :].split()
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(entry.name))
    return found


def alive(pid):
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat[stat.rindex(")") + 2] != "Z"


class Process:
    """A child with its output in a file."""

    def __init__(self, folder, name, *arguments, environment=None):
        self.name = name
        self.path = pathlib.Path(folder) / f"{name}.log"
        self.output = open(self.path, "wb")
        self.popen = subprocess.Popen(
            [str(part) for part in arguments],
            stdout=self.output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "TMPDIR": str(folder), **(environment or {})},
        )

    @property
    def pid(self):
        return self.popen.pid

    def text(self):
        return self.path.read_text(errors="replace")

    def wait_for(self, pattern, patience=PATIENCE):
        def found():
            match = re.search(pattern, self.text())
            if match is None and self.popen.poll() is not None:
                match = re.search(pattern, self.text())
                if match is None:
                    raise AssertionError(f"{self.name} ended with {self.popen.returncode} before {pattern!r}:\n{self.text()}")
            return match

        try:
            return wait_until(found, f"{pattern!r} from {self.name}", patience)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.name} said:\n{self.text()}") from None

    def end(self, patience=PATIENCE):
        """Waits for its own end; its exit code."""
        try:
            return self.popen.wait(patience)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not end within {patience} s:\n{self.text()}") from None

    def signal(self, number):
        self.popen.send_signal(number)

    def kill(self):
        self.popen.kill()
        self.popen.wait()

    def clean_up(self):
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGCONT)
            self.popen.kill()
        self.popen.wait()
        self.output.close()


class ClusterTest(unittest.TestCase):
    """A test with a folder and processes of its own."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="muster-e2e-")
        self.processes = []
        self.addCleanup(self.clean_up)

    def clean_up(self):
        for process in reversed(self.processes):
            process.clean_up()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, name, *arguments, environment=None):
        process = Process(self.folder, f"{len(self.processes)}-{name}", *arguments, environment=environment)
        self.processes.append(process)
        return process

    def head(self, *arguments, port=0, environment=None):
        head = self.start("head", BIN / "muster", "head", "--port", port, *arguments, environment=environment)
        head.address = head.wait_for(r"head at (\d+\.\d+\.\d+\.\d+:\d+)").group(1)
        return head

    def worker(self, head, name, *arguments, environment=None):
        worker = self.start(
            name, BIN / "muster", "worker", "--address", head.address, "--name", name, *arguments, environment=environment
        )
        self.wait_for_node(head, name, "alive")
        return worker

    def driver(self, head, *arguments, environment=None):
        return self.start(
            "driver", BIN / "failures", *arguments, environment={"MUSTER_ADDRESS": head.address, **(environment or {})}
        )

    def status(self, head):
        done = subprocess.run(
            [BIN / "muster", "status", "--address", head.address, "--json"], capture_output=True, text=True, timeout=PATIENCE
        )
        return json.loads(done.stdout) if done.returncode == 0 else {"nodes": [], "waiting": []}

    def wait_for_node(self, head, name, state, patience=PATIENCE):
        return wait_until(
            lambda: [n for n in self.status(head)["nodes"] if n["id"] == name and n["state"] == state],
            f"node {name} {state}",
            patience,
        )[0]

    def wait_for_idle(self, head):
        """Nothing is used on any node that is alive."""

        def idle():
            nodes = [n for n in self.status(head)["nodes"] if n["state"] == "alive"]
            return nodes and all(amount["used"] == 0 for node in nodes for amount in node["resources"].values())

        wait_until(idle, "all resources to be free again")
