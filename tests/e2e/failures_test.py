"""What survives, with real processes killed, stopped and fed with nonsense (ARCHITECTURE.md, "What survives")."""

import os
import pathlib
import re
import signal
import socket
import struct
import subprocess
import unittest

from harness import BIN, ClusterTest, alive, children_of, wait_until


class ExecutorTest(ClusterTest):
    def test_killed_executor_is_retried(self):
        head = self.head()
        self.worker(head, "a", "--num-cpus", "1")
        go = pathlib.Path(self.folder) / "go"
        driver = self.driver(head, "hold", go)
        pid = int(driver.wait_for(r"\(Hold pid=(\d+) node=a\) holding").group(1))
        os.kill(pid, signal.SIGKILL)
        second = int(driver.wait_for(rf"\(Hold pid=(?!{pid}\b)(\d+) node=a\) holding").group(1))
        go.touch()
        self.assertEqual(driver.end(), 0, driver.text())
        self.assertIn(f"result pid={second} node=a attempt=1", driver.text())
        self.wait_for_idle(head)


class OutputTest(ClusterTest):
    def test_all_output_comes_on_its_stream_before_the_driver_ends(self):
        head = self.head()
        self.worker(head, "a", "--num-cpus", "1")
        done = subprocess.run(
            [BIN / "failures", "chatter", "2000"],
            env={**os.environ, "MUSTER_ADDRESS": head.address},
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        for text, word in ((done.stdout, "out"), (done.stderr, "err")):
            numbers = re.findall(rf"^\(Chatter pid=\d+ node=a\) {word} (\d+)$", text, re.MULTILINE)
            self.assertEqual(numbers, [str(i) for i in range(2000)])
        self.assertIn(") no end of line\n", done.stdout[-100:])


class LibraryTest(ClusterTest):
    def test_missing_library_is_named(self):
        head = self.head()
        self.worker(head, "bare", "--num-cpus", "1")
        driver = self.start(
            "driver",
            BIN / "needs_library",
            environment={"MUSTER_ADDRESS": head.address, "LD_LIBRARY_PATH": str(BIN.parent / "lib")},
        )
        self.assertEqual(driver.end(), 1, driver.text())
        self.assertIn("node bare cannot start needs_library: libmuster_needed.so is not there", driver.text())


class WorkerTest(ClusterTest):
    def test_killed_worker_loses_nothing_and_the_fallback_serves(self):
        head = self.head("--node-timeout", "3s")
        first = self.worker(head, "a", "--num-cpus", "2", "--labels", "zone=a")
        self.worker(head, "b", "--num-cpus", "2", "--labels", "zone=b")
        driver = self.driver(head, "prefer", 30, 100)
        driver.wait_for(r"first")
        executors = children_of(first.pid)
        first.kill()
        self.assertEqual(driver.end(), 0, driver.text())
        self.assertIn("done 30", driver.text())
        self.assertRegex(driver.text(), r"node b \d+")
        self.assertRegex(driver.text(), r"choice 1 \d+")
        wait_until(lambda: not any(alive(pid) for pid in executors), "the dead worker's executors to end")
        self.wait_for_node(head, "a", "lost")

    def test_stopped_worker_is_lost_then_fenced(self):
        head = self.head("--node-timeout", "2s")
        go = pathlib.Path(self.folder) / "go"
        first = self.worker(head, "a", "--num-cpus", "1")
        driver = self.driver(head, "hold", go)
        pid = int(driver.wait_for(r"\(Hold pid=(\d+) node=a\) holding").group(1))
        self.worker(head, "b", "--num-cpus", "1")
        first.signal(signal.SIGSTOP)
        self.wait_for_node(head, "a", "lost")
        driver.wait_for(r"\(Hold pid=\d+ node=b\) holding")
        first.signal(signal.SIGCONT)
        first.wait_for(r"fenced")
        wait_until(lambda: not alive(pid), "the fenced worker's executor to end")
        # It joins again, as a new node with nothing on it.
        wait_until(
            lambda: len([n for n in self.status(head)["nodes"] if n["state"] == "alive"]) == 2, "the fenced worker to join anew"
        )
        go.touch()
        self.assertEqual(driver.end(), 0, driver.text())
        self.assertRegex(driver.text(), r"result pid=\d+ node=b attempt=1")
        self.wait_for_idle(head)


class DriverTest(ClusterTest):
    def test_killed_driver_leaves_nothing(self):
        head = self.head()
        worker = self.worker(head, "a", "--num-cpus", "2")
        driver = self.driver(head, "hold", pathlib.Path(self.folder) / "never")
        pid = int(driver.wait_for(r"\(Hold pid=(\d+)").group(1))
        driver.kill()
        wait_until(lambda: not alive(pid), "the executor of a dead driver to end", patience=10)
        wait_until(lambda: not children_of(worker.pid), "all executors of a dead driver to end")
        self.wait_for_idle(head)


class HeadTest(ClusterTest):
    def restart(self, head):
        head.kill()
        return self.head(port=head.address.split(":")[1])

    def test_running_tasks_go_on_without_a_head_and_nothing_is_lost_or_doubled(self):
        head = self.head()
        self.worker(head, "a", "--num-cpus", "2")
        self.worker(head, "b", "--num-cpus", "1")
        driver = self.driver(head, "count", 60, 100)
        driver.wait_for(r"first")
        head = self.restart(head)
        self.assertEqual(driver.end(), 0, driver.text())
        self.assertIn("done 60", driver.text())
        self.wait_for_node(head, "a", "alive")
        self.wait_for_node(head, "b", "alive")
        self.wait_for_idle(head)

    def test_task_that_runs_while_the_head_restarts_is_not_run_again(self):
        head = self.head()
        self.worker(head, "a", "--num-cpus", "1")
        go = pathlib.Path(self.folder) / "go"
        driver = self.driver(head, "hold", go)
        pid = int(driver.wait_for(r"\(Hold pid=(\d+)").group(1))
        head = self.restart(head)
        node = self.wait_for_node(head, "a", "alive")
        wait_until(
            lambda: [n for n in self.status(head)["nodes"] if n["resources"]["cpus"]["used"] == 1], "the new head to know the lease"
        )
        self.assertEqual(node["resources"]["cpus"]["total"], 1)
        go.touch()
        self.assertEqual(driver.end(), 0, driver.text())
        self.assertIn(f"result pid={pid} node=a attempt=0", driver.text())
        self.wait_for_idle(head)

    def test_group_goes_on_through_a_restart_of_the_head(self):
        head = self.head()
        self.worker(head, "a", "--num-cpus", "2")
        driver = self.driver(head, "ranks", 2, 100)
        wait_until(lambda: self.status(head)["nodes"][0]["resources"]["cpus"]["used"] == 2, "the group to run")
        head = self.restart(head)
        self.assertEqual(driver.end(), 0, driver.text())
        self.assertEqual(driver.text().count("generation 0"), 2, driver.text())

    def test_driver_without_a_head_gives_up_in_words(self):
        head = self.head()
        head.kill()
        driver = self.start("driver", BIN / "failures", "count", 1, 1, environment={"MUSTER_ADDRESS": head.address})
        self.assertEqual(driver.end(), 3)
        self.assertIn(f"no muster head at {head.address}: connection refused", driver.text())


class NonsenseTest(ClusterTest):
    """Garbage and oversized frames on every port, while a job runs."""

    PAYLOADS = (
        b"GET / HTTP/1.1\r\n\r\n",
        os.urandom(4096),
        b"\x00" * 100_000,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 10_000,
        b"MSF1" + struct.pack("<I", 0x7FFFFFFF) + b"x" * 1000,
        struct.pack("<II", 0xFFFFFFFF, 0xFFFFFFFF),
    )

    def feed(self, family, address):
        for payload in self.PAYLOADS:
            with socket.socket(family, socket.SOCK_STREAM) as peer:
                peer.settimeout(15)
                try:
                    peer.connect(address)
                    peer.sendall(payload)
                    peer.shutdown(socket.SHUT_WR)
                    while peer.recv(65536):
                        pass
                except OSError as error:
                    self.assertNotIsInstance(error, socket.timeout, f"{address} keeps a connection with {payload[:16]!r}")

    def test_nonsense_harms_nobody(self):
        head = self.head()
        self.worker(head, "a", "--num-cpus", "2", environment={"MUSTER_EXECUTOR_TCP": "1"})
        driver = self.driver(head, "count", 100, 100, environment={"MUSTER_TRANSPORT": "tcp"})
        driver.wait_for(r"first")
        host, port = head.address.split(":")
        self.feed(socket.AF_INET, (host, int(port)))
        names = set(re.findall(r"@(muster/[0-9a-f]+)", pathlib.Path("/proc/net/unix").read_text()))
        self.assertTrue(names)
        for name in names:
            self.feed(socket.AF_UNIX, "\0" + name)
        for port in self.executor_ports():
            self.feed(socket.AF_INET, ("127.0.0.1", port))
        self.assertEqual(driver.end(), 0, driver.text())
        self.assertIn("done 100", driver.text())
        self.assertRegex(head.text(), r"WARNING")
        self.wait_for_idle(head)

    def executor_ports(self):
        """TCP ports that executors of this test listen on."""
        inodes = {}
        for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                inodes[fields[9]] = int(fields[1].split(":")[1], 16)
        ports = []
        for process in self.processes:
            if process.popen.poll() is not None:
                continue
            for pid in children_of(process.pid):
                try:
                    links = [os.readlink(entry) for entry in pathlib.Path(f"/proc/{pid}/fd").iterdir()]
                except OSError:
                    continue
                ports += [inodes[m.group(1)] for m in map(re.compile(r"socket:\[(\d+)\]").match, links) if m and m.group(1) in inodes]
        self.assertTrue(ports)
        return ports


if __name__ == "__main__":

    unittest.main(verbosity=2)
