"""The command line with real processes: clusters on this machine start, say what they are, and leave nothing behind."""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import tempfile
import time
import unittest

import harness

MUSTER = str(harness.BIN / "muster")
PATIENCE = 60.0


class CliTest(unittest.TestCase):
    """Each test has a TMPDIR of its own, which must be empty in the end, and no daemon may be left."""

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="muster-cli-")
        self.addCleanup(self.folder.cleanup)
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not re.match(r"(MUSTER|RAY)_", name) and name != "CUDA_VISIBLE_DEVICES"
        }
        self.environment["TMPDIR"] = self.folder.name
        self.daemons = []
        self.addCleanup(self.kill_what_is_left)

    def kill_what_is_left(self):
        """Only where a test failed: what was recorded here is ours."""
        for about in pathlib.Path(self.folder.name).glob("muster-*/*/about.json"):
            pid = json.loads(about.read_text())["pid"]
            if harness.alive(pid):
                os.kill(pid, signal.SIGKILL)
        for daemon in self.daemons:
            if daemon.poll() is None:
                daemon.kill()
            daemon.communicate()

    def muster(self, *arguments, code=0, **environment):
        done = subprocess.run(
            [MUSTER, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
        )
        self.assertEqual(done.returncode, code, f"{arguments}\n{done.stdout}\n{done.stderr}")
        return done

    def daemon(self, *arguments, **environment):
        """In the foreground; its output is read by wait_for_line() and end()."""
        daemon = subprocess.Popen(
            [MUSTER, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**self.environment, **environment},
        )
        daemon.said = ""
        os.set_blocking(daemon.stdout.fileno(), False)
        self.daemons.append(daemon)
        return daemon

    def read(self, daemon):
        daemon.said += (daemon.stdout.read() or b"").decode()
        return daemon.said

    def wait_for_line(self, daemon, pattern):
        return harness.wait_until(lambda: re.search(pattern, self.read(daemon)), f"{pattern!r} in {daemon.said!r}")

    def end(self, daemon, code=0):
        self.assertEqual(daemon.wait(PATIENCE), code, self.read(daemon))
        return self.read(daemon)

    def head(self, *arguments, **environment):
        head = self.daemon("head", "--port", 0, *arguments, **environment)
        head.address = self.wait_for_line(head, r"head at (\S+:\d+)\.").group(1)
        return head

    def up(self, *arguments):
        done = self.muster("up", "--port", 0, *arguments)
        match = re.fullmatch(r"muster (\S+): head at (127\.0\.0\.1:\d+), (.*)\. Stop with: (.*)\n", done.stdout)
        self.assertIsNotNone(match, done.stdout)
        self.assertEqual(match[4], f"muster down --address {match[2]}")
        return match[2], match[3]

    def status(self, address):
        return json.loads(self.muster("status", "--address", address, "--json").stdout)

    def wait_for_nodes(self, address, state, count):
        def reached():
            nodes = [node for node in self.status(address)["nodes"] if node["state"] == state]
            return len(nodes) == count and nodes

        return harness.wait_until(reached, f"{count} nodes {state}")

    def pids(self, address):
        status = self.status(address)
        return [status["head"]["pid"]] + [node["pid"] for node in status["nodes"]]

    def assert_nothing_left(self, pids):
        self.assertEqual([pid for pid in pids if harness.alive(pid)], [])
        self.assertEqual(os.listdir(self.folder.name), [])

    # --- whatif, snapshots, decisions, recordings ---

    def driver(self, program, address):
        """A program that prints `task ID` lines and ends when its standard input does; with its ids."""
        driver = subprocess.Popen(
            [str(harness.BIN / program), "--muster-address", address],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=self.environment)
        self.daemons.append(driver)
        return driver

    def test_whatif_asks_a_head_and_a_snapshot(self):
        address, _ = self.up("--node", "cpus=2,gpus=1,memory=1GiB,name=old,ray.io/accelerator-type=A10")
        driver = self.driver("waiting", address)
        task = driver.stdout.readline().split()[1]
        harness.wait_until(lambda: [row for row in self.status(address)["waiting"] if row["requests"]], "tasks to wait")
        at = ("--address", address)
        # Where and when, for a new request.
        self.assertEqual(self.muster("whatif", *at, "--request", "gpus=1", "--label-selector",
                                     "ray.io/accelerator-type=A10").stdout,
                         "A request for 1 CPU, 1 GPU on accelerator-type=A10, could start\n"
                         "  as it is: now on old, choice 1 (accelerator-type=A10), GPU 0\n")
        never = self.muster("whatif", *at, "--request", "gpus=2", "--json", code=1)
        self.assertEqual(json.loads(never.stdout)["as_it_is"]["when"], "infeasible")
        # For a task that waits, with two more nodes of a kind.
        with_nodes = json.loads(self.muster("whatif", *at, "--task", task, "--json", "--add-node",
                                            "count=2,gpus=1,ray.io/accelerator-type=H100").stdout)
        self.assertEqual(with_nodes["as_it_is"]["when"], "infeasible")
        self.assertEqual(with_nodes["changed"]["in_s"], 0)
        self.assertIn("new-1, new-2: 2 CPUs, 1 GPU, 1 GiB memory, accelerator-type=H100", with_nodes["change"])
        # For all that waits.
        table = self.muster("whatif", *at, "--add-node", "gpus=1,ray.io/accelerator-type=H100").stdout
        self.assertIn("Score  1 CPU, 1 GPU", table)
        self.assertIn("1 now", table)
        explained = json.loads(self.muster("explain", *at, "task", task, "--json").stdout)
        self.assertTrue(explained["starts"].startswith("never: "), explained)
        self.assertIsNone(explained["starts_in_s"])
        # The same of a snapshot, when the cluster is gone.
        snapshot = pathlib.Path(self.folder.name) / "now.json"
        self.addCleanup(snapshot.unlink, missing_ok=True)
        self.assertEqual(self.muster("status", *at, "--snapshot", snapshot).stdout, "")
        whole = self.muster("status", *at, "--snapshot").stdout
        self.assertEqual(json.loads(whole)["nodes"], json.loads(snapshot.read_text())["nodes"])
        driver.communicate("")
        pids = self.pids(address)
        self.muster("down", *at)
        text = snapshot.read_text()
        done = self.muster("whatif", "--snapshot", snapshot, "--remove-node", "old", "--request", "", code=1)
        self.assertIn("without old: never: needs 1 CPU; there are no nodes", done.stdout)
        self.assertIn("Score", self.muster("whatif", "--snapshot", snapshot).stdout)
        # What is wrong is named.
        self.muster("whatif", *at, code=3)
        self.muster("status", *at, "--snapshot", code=3)
        for arguments, why in [
                (("--snapshot", "/nowhere"), "cannot read /nowhere: No such file or directory"),
                (("--snapshot", snapshot, "--request", "gpu=1"), '"gpu=1" is no resource'),
                (("--snapshot", snapshot, "--add-node", "gpus=x"), "--add-node: "),
                (("--snapshot", snapshot, "--task", task, "--request", "gpus=1"), "--task asks about"),
                (("--snapshot", snapshot, "--config", '{"polcy": "x"}'), "--config: polcy: there is no such member"),
                (("--replay", snapshot, "--request", "gpus=1"), "--replay goes with"),
                (("--replay", "/nowhere"), "cannot read /nowhere")]:
            done = self.muster("whatif", *arguments, code=2)
            self.assertIn(why, done.stderr)
            self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        self.assertEqual(self.muster("whatif", "--snapshot", snapshot, "--remove-node", "x", code=1).stderr,
                         "there is no node x\n")
        self.assertIn("no task", self.muster("whatif", "--snapshot", snapshot, "--task", "ffff", code=1).stderr)
        for old, new, why in [('"muster_snapshot":1', '"muster_snapshot":9', "reads version 1, not 9"),
                              ('"name":"old"', '"nmae":"old"', "nodes[0].nmae: there is no such member"),
                              ('"cpus":2', '"cpus":-2', "nodes[0].total"), ("{", "[", "no JSON")]:
            self.assertIn(old, text)
            snapshot.write_text(text.replace(old, new, 1))
            self.assertIn(why, self.muster("whatif", "--snapshot", snapshot, code=2).stderr)
        snapshot.unlink()
        self.assert_nothing_left(pids)

    def test_decisions_are_known_after_the_end(self):
        address, _ = self.up("--node", "cpus=2,gpus=1,name=large", "--node", "cpus=1,name=small")
        at = ("--address", address)
        self.assertEqual(self.muster("explain", *at, "--decision").stdout, "Nothing has been decided yet.\n")
        driver = self.driver("ended", address)
        task = driver.stdout.readline().split()[1]
        (decision,) = json.loads(self.muster("explain", *at, "--decision", "--json").stdout)
        self.assertEqual((decision["number"], decision["kind"], decision["class"], decision["task"], decision["node"],
                          decision["choice"]), (1, "granted", "Score", task, "small", 1))
        self.assertEqual(decision["tried"][0]["found"], "0 of 2 nodes matched")
        self.assertEqual(decision["lost"], [{"node": "large", "by": "it has GPUs, and the work needs none"}])
        self.assertRegex(self.muster("explain", *at, "--decision").stdout,
                         r"^ +1  \d+m?s ago +granted +Score \(request 1\) on small, choice 2 of 2, after \d")
        for asked in [("--decision", "1"), ("task", task, "--decision"), ("--decision", task)]:
            self.assertIn("large lost: it has GPUs", self.muster("explain", *at, *asked).stdout)
        self.assertRegex(self.muster("explain", *at, "task", task[:12]).stdout,
                         r"^Score has finished\nDecision 1, .*got 1 CPU on small by choice 2 of 2")
        # Its driver is gone: the head knows the lease that was asked for it.
        driver.communicate("")
        ended = harness.wait_until(
            lambda: "does not know it any more" in (text := self.muster("explain", *at, "task", task).stdout) and text,
            "the driver to be gone")
        self.assertIn("large lost: it has GPUs", ended)
        self.assertIn("nor is there", self.muster("explain", *at, "--decision", "77", code=1).stderr)
        self.assertIn("no task's id begins so", self.muster("explain", *at, "--decision", "ffff", code=1).stderr)
        self.assertIn("hexadecimal", self.muster("explain", *at, "--decision", "x", code=2).stderr)
        self.muster("explain", code=2)
        pids = self.pids(address)
        self.muster("down", *at)
        self.muster("explain", *at, "--decision", code=3)
        self.assert_nothing_left(pids)

    def test_recorded_events_are_replayed(self):
        events = pathlib.Path(self.folder.name) / "events.jsonl"
        self.addCleanup(events.unlink, missing_ok=True)
        head = self.daemon("head", "--port", 0, "--record-events", events, "--decision-detail", "off")
        address = self.wait_for_line(head, r"head at (\S+?)\. ").group(1)
        worker = self.daemon("worker", "--address", address, "--num-cpus", 2, "--name", "a")
        self.wait_for_nodes(address, "alive", 1)
        driver = self.driver("ended", address)
        driver.stdout.readline()
        driver.communicate("")
        self.assertIn("was not kept", self.muster("explain", "--address", address, "--decision", "1").stdout)
        for daemon in (worker, head):
            daemon.send_signal(signal.SIGINT)
            self.end(daemon)
        replayed = json.loads(self.muster("whatif", "--replay", events, "--json").stdout)
        self.assertEqual(replayed["recorded"]["requests"], 1)
        self.assertEqual(replayed["recorded"]["by_choice"], [0, 1])
        self.assertEqual(replayed["recorded"], replayed["what_if"])
        self.assertEqual(replayed["moved"]["elsewhere"], 0)
        text = self.muster("whatif", "--replay", events, "--config", '{"waiting_requests_max": 0}').stdout
        self.assertRegex(text, r"granted +1 +0\n")
        self.assertRegex(text, r"refused +0 +1\n")
        self.assertIn("--config: waiting", self.muster("whatif", "--replay", events, "--config",
                                                       '{"waiting_requests_max": "x"}', code=2).stderr)
        events.write_text(events.read_text() + "{}\n")
        self.assertRegex(self.muster("whatif", "--replay", events, code=2).stderr, r"line \d+: at: is missing")
        events.unlink()

    def test_a_recording_that_cannot_be_written_is_said(self):
        for path, why in [("/nowhere/events", "No such file or directory"), ("/dev/full", "No space left on device")]:
            done = self.muster("head", "--port", 0, "--record-events", path, code=1)
            self.assertIn(f"cannot write {path}: {why}", done.stderr)
            done = self.muster("up", "--port", 0, "--node", "cpus=1", "--record-events", path, code=1)
            self.assertIn(f"cannot write {path}: {why}", done.stderr)
        for command in "head", "up":
            done = self.muster(command, "--decision-detail", "much", code=2)
            self.assertIn("--decision-detail: allowed", done.stderr)
        self.assert_nothing_left([])

    # --- up, status, nodes, down ---

    def test_a_cluster_starts_shows_itself_and_ends(self):
        address, what = self.up(
            "--node", "gpus=1,ray.io/accelerator-type=L4,ray.io/market-type=spot,name=spot",
            "--node", "count=2,cpus=2,gpus=1,memory=8GiB,resource.license=2,ray.io/accelerator-type=L4")
        self.assertEqual(what, "3 nodes, 3 GPUs (pretended)")
        status = self.status(address)
        self.assertEqual(status["head"]["address"], address)
        self.assertEqual({"address", "version", "uptime_s", "pid"}, set(status["head"]))
        self.assertEqual(status["waiting"], [])
        nodes = {node["id"]: node for node in status["nodes"]}
        self.assertEqual(len(nodes), 3)
        self.assertEqual(nodes["spot"]["labels"]["ray.io/market-type"], "spot")
        other = next(node for name, node in nodes.items() if name != "spot")
        self.assertEqual(other["resources"], {
            "cpus": {"used": 0, "total": 2},
            "gpus": {"used": 0, "total": 1},
            "memory_bytes": {"used": 0, "total": 8 << 30},
            "license": {"used": 0, "total": 2},
        })
        text = self.muster("status", MUSTER_ADDRESS=address).stdout
        self.assertRegex(text, rf"\Ahead {address}, up \d+s, 3 nodes alive\nNODE +STATE +CPU +GPU +MEMORY +OTHER +LABELS\n")
        self.assertNotIn("\x1b", text)
        self.assertIn("ray.io/market-type=spot", self.muster("nodes", "--address", address).stdout)
        self.assertEqual(len(json.loads(self.muster("nodes", "--address", address, "--json").stdout)), 3)
        pids = self.pids(address)
        self.assertEqual(len(pids), 4)
        for pid in pids:
            self.assertEqual(os.getsid(pid), pid)  # Away from the terminal.
        down = self.muster("down", "--address", address)
        self.assertEqual(down.stdout, f"muster at {address} has ended: the head, 3 workers\n")
        self.assert_nothing_left(pids)
        again = self.muster("down", "--address", address, code=3)
        self.assertEqual(again.stderr, f"no muster head at {address}: connection refused (tried for 1 s). "
                                       "Start one with: muster head\n")

    def test_up_without_nodes_offers_this_machine(self):
        address, what = self.up()
        self.assertRegex(what, r"^1 node, ")
        (node,) = self.status(address)["nodes"]
        self.assertGreater(node["resources"]["cpus"]["total"], 0)
        self.assertGreater(node["resources"]["memory_bytes"]["total"], 0)
        pids = self.pids(address)
        self.muster("down", MUSTER_ADDRESS=address)
        self.assert_nothing_left(pids)

    def test_up_reads_a_cluster_file(self):
        path = pathlib.Path(self.folder.name) / "cluster.yaml"
        path.write_text("nodes:\n- {count: 2, cpus: 1, name: small, zone: a}\n- {cpus: 4, name: large}\n")
        address, what = self.up("-f", path)
        path.unlink()
        self.assertEqual(what, "3 nodes, no GPUs")
        self.assertEqual(sorted(node["id"] for node in self.status(address)["nodes"]), ["large", "small-1", "small-2"])
        pids = self.pids(address)
        self.muster("down", "--address", address)
        self.assert_nothing_left(pids)

    def test_up_on_a_taken_port_says_so(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            done = self.muster("up", "--port", port, "--node", "cpus=1", code=1)
        self.assertEqual(done.stderr, f"cannot listen on 127.0.0.1:{port}: in use by another process; "
                                      "choose one with --port (0 picks a free one)\n")
        self.assert_nothing_left([])

    def test_up_twice_says_that_a_cluster_is_there(self):
        address, _ = self.up("--node", "cpus=1")
        pids = self.pids(address)
        done = self.muster("up", "--port", address.rsplit(":", 1)[1], code=1)
        self.assertRegex(done.stderr, rf"^cannot listen on {address}: a muster cluster is there already \(its head has "
                                      rf"pid {pids[0]}\); end it with muster down --address {address}, or choose another "
                                      r"port with --port \(0 picks a free one\)\n$")
        self.assertEqual(self.pids(address), pids)  # The first one is untouched.
        self.muster("down", "--address", address)
        self.assert_nothing_left(pids)

    def test_up_with_a_bad_node_starts_nothing(self):
        for spec, why in [("gpus=x", "gpus=x: must be a whole number"), ("zone", "is not key=value"),
                          ("count=2,cpus=1,bad key=1", "bad key"), ("name=a,count=1001", "count=1001")]:
            done = self.muster("up", "--port", 0, "--node", "cpus=1", "--node", spec, code=2)
            self.assertIn(why, done.stderr)
            self.assertEqual(len(done.stderr.splitlines()), 1)
        self.muster("up", "--port", 0, "--node", "name=a", "--node", "name=a", code=2)
        self.muster("up", "-f", "/nowhere.yaml", code=2)
        self.assert_nothing_left([])

    def test_up_that_fails_half_way_ends_what_it_started(self):
        # The labels are read by the worker only.
        done = self.muster("up", "--port", 0, "--node", "cpus=1", RAY_OVERRIDE_LABELS="{", code=1)
        self.assertIn("RAY_OVERRIDE_LABELS", done.stderr)
        self.assert_nothing_left([])

    def test_up_ends_what_it_started_when_interrupted(self):
        up = self.daemon("up", "--port", 0, "--node", "count=60,cpus=1")
        harness.wait_until(lambda: list(pathlib.Path(self.folder.name).glob("muster-*/worker-*/about.json")), "a worker")
        pids = [json.loads(about.read_text())["pid"]
                for about in pathlib.Path(self.folder.name).glob("muster-*/*/about.json")]
        up.send_signal(signal.SIGINT)
        code = up.wait(PATIENCE)
        if code == 0:  # It was faster.
            address = re.search(r"127\.0\.0\.1:\d+", self.read(up)).group(0)
            self.muster("down", "--address", address)
        self.assert_nothing_left(pids)

    # --- down, when things are dead already ---

    def test_down_ends_the_workers_of_a_dead_head(self):
        address, _ = self.up("--node", "count=2,cpus=1")
        pids = self.pids(address)
        os.kill(pids[0], signal.SIGKILL)
        harness.wait_until(lambda: not harness.alive(pids[0]), "the head's end")
        done = self.muster("down", "--address", address)
        self.assertEqual(done.stdout, f"the head at {address} does not answer; ended 2 processes of its cluster on this "
                                      "machine\n")
        self.assert_nothing_left(pids)
        self.muster("down", "--address", address, code=3)

    def test_down_ends_a_head_that_hangs(self):
        address, _ = self.up("--node", "cpus=1")
        pids = self.pids(address)
        os.kill(pids[0], signal.SIGSTOP)
        self.muster("down", "--address", address)
        self.assert_nothing_left(pids)

    def test_down_removes_what_killed_processes_left(self):
        address, _ = self.up("--node", "count=2,cpus=1")
        pids = self.pids(address)
        os.kill(pids[1], signal.SIGKILL)
        self.muster("down", "--address", address)
        self.assert_nothing_left(pids)

    def test_down_of_dead_clusters_cleans_up_and_says_there_is_none(self):
        address, _ = self.up("--node", "cpus=1")
        pids = self.pids(address)
        for pid in reversed(pids):
            os.kill(pid, signal.SIGKILL)
        harness.wait_until(lambda: not any(map(harness.alive, pids)), "their end")
        self.muster("down", "--address", address, code=3)
        self.assert_nothing_left(pids)

    def test_down_leaves_other_clusters_alone(self):
        first, _ = self.up("--node", "cpus=1")
        second, _ = self.up("--node", "cpus=1")
        pids = self.pids(second)
        os.kill(self.pids(first)[0], signal.SIGKILL)
        self.muster("down", "--address", first)
        self.assertEqual(self.pids(second), pids)
        self.muster("down", "--address", second)
        self.assert_nothing_left(pids)

    # --- head and worker by hand ---

    def test_head_and_worker_end_by_signals_with_0(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            head = self.head()
            worker = self.daemon("worker", "--address", head.address, "--num-cpus", 1, "--labels", "zone=a")
            self.wait_for_line(worker, r"offers 1 CPU.*labels zone=a")
            self.wait_for_nodes(head.address, "alive", 1)
            worker.send_signal(number)
            self.end(worker)
            harness.wait_until(lambda: not self.status(head.address)["nodes"], "the node to leave")
            head.send_signal(number)
            self.end(head)
            self.assert_nothing_left([])

    def test_down_ends_daemons_that_were_started_by_hand(self):
        head = self.head()
        worker = self.daemon("worker", "--address", head.address)
        self.wait_for_nodes(head.address, "alive", 1)
        self.muster("down", "--address", head.address)
        self.end(worker)
        self.end(head)
        self.assert_nothing_left([])

    def test_a_worker_waits_for_its_head_and_says_so_once(self):
        with socket.create_server(("127.0.0.1", 0)) as found:
            port = found.getsockname()[1]
        worker = self.daemon("worker", "--address", f"127.0.0.1:{port}", "--num-cpus", 1)
        self.wait_for_line(worker, rf"no muster head at 127\.0\.0\.1:{port}: connection refused; keeps trying")
        # Several attempts follow within this time; none of them is told.
        self.assertRaises(subprocess.TimeoutExpired, worker.wait, 2)
        self.assertEqual(self.read(worker).count("keeps trying"), 1)
        head = self.daemon("head", "--port", port)
        self.wait_for_line(head, "head at")
        self.wait_for_nodes(f"127.0.0.1:{port}", "alive", 1)
        self.muster("down", "--address", f"127.0.0.1:{port}")
        self.end(worker)
        self.end(head)
        self.assert_nothing_left([])

    def test_a_worker_without_a_head_ends_by_either_signal(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            worker = self.daemon("worker", "--address", "127.0.0.1:1")
            self.wait_for_line(worker, "keeps trying")
            worker.send_signal(number)
            self.end(worker)
            self.assert_nothing_left([])

    def test_sighup_reads_the_labels_file_again(self):
        labels = pathlib.Path(self.folder.name) / "labels.yaml"
        labels.write_text("zone: a\n")
        head = self.head()
        worker = self.daemon("worker", "--address", head.address, "--labels-file", labels, "--labels", "rack=r1")
        (node,) = self.wait_for_nodes(head.address, "alive", 1)
        self.assertEqual((node["labels"]["zone"], node["labels"]["rack"]), ("a", "r1"))
        labels.write_text("zone: b\n")
        worker.send_signal(signal.SIGHUP)
        harness.wait_until(lambda: self.status(head.address)["nodes"][0]["labels"]["zone"] == "b", "the new label")
        labels.write_text("zone: [\n")
        worker.send_signal(signal.SIGHUP)
        self.wait_for_line(worker, "the labels stay as they are")
        labels.unlink()
        self.muster("down", "--address", head.address)
        self.end(worker)
        self.end(head)
        self.assert_nothing_left([])

    def test_a_taken_name_is_refused_with_the_reason(self):
        head = self.head()
        first = self.daemon("worker", "--address", head.address, "--name", "n")
        self.wait_for_nodes(head.address, "alive", 1)
        second = self.daemon("worker", "--address", head.address, "--name", "n")
        self.assertIn('the name "n" is that of a node which is alive', self.end(second, code=1))
        self.muster("down", "--address", head.address)
        self.end(first)
        self.end(head)
        self.assert_nothing_left([])

    # --- tokens ---

    def test_other_addresses_than_loopback_need_a_token(self):
        for command in ("head", "worker", "up"):
            host = ("--host", "0.0.0.0") if command != "worker" else ("--host", "192.0.2.7")
            done = self.muster(command, *host, code=2)
            self.assertIn("MUSTER_AUTH_TOKEN", done.stderr)
            self.assertEqual(len(done.stderr.splitlines()), 1)
        self.assert_nothing_left([])

    def test_a_head_with_a_token_asks_all_for_it(self):
        token = pathlib.Path(self.folder.name) / "token"
        token.write_text("secret\n")
        head = self.head(MUSTER_AUTH_TOKEN_PATH=str(token))
        said = f"the head at {head.address} asks for a token: set MUSTER_AUTH_TOKEN or MUSTER_AUTH_TOKEN_PATH"
        for command in (("status",), ("nodes",), ("explain", "task", "4f"), ("down",)):
            self.assertEqual(self.muster(*command, "--address", head.address, code=3).stderr, said + "\n")
        self.assertIn("another token",
                      self.muster("status", "--address", head.address, code=3, MUSTER_AUTH_TOKEN="wrong").stderr)
        worker = self.daemon("worker", "--address", head.address)
        self.assertIn(said, self.end(worker, code=3))
        worker = self.daemon("worker", "--address", head.address, MUSTER_AUTH_TOKEN="secret")
        harness.wait_until(
            lambda: self.muster("nodes", "--address", head.address, MUSTER_AUTH_TOKEN="secret").stdout != "no nodes\n",
            "the node")
        self.muster("down", "--address", head.address, MUSTER_AUTH_TOKEN="secret")
        self.end(worker)
        self.end(head)
        token.unlink()
        self.assert_nothing_left([])

    # --- usage ---

    def test_help_has_an_example_and_wrong_usage_is_one_line(self):
        commands = re.findall(r"^  ([\w-]+) ", self.muster("--help").stdout, re.MULTILINE)
        self.assertEqual(commands[:14],
                         ["up", "down", "head", "worker", "status", "nodes", "explain", "drain", "quarantine", "quota",
                          "fair-share", "whatif", "selector", "version"])
        for command in commands[:14]:
            self.assertRegex(self.muster(command, "--help").stdout, rf"For example:\n  .*muster {command}")
            done = self.muster(command, "--nonsense", code=2)
            self.assertEqual(done.stderr, f"muster {command}: there is no option --nonsense; see muster {command} --help\n")
        self.assertIn("Usage: muster", self.muster(code=2).stdout)
        self.assertIn('no command "nonsense"', self.muster("nonsense", code=2).stderr)

    def test_questions_without_a_head(self):
        for command in (("status",), ("nodes", "--json"), ("explain", "task", "4f"), ("down",)):
            started = time.monotonic()
            done = self.muster(*command, "--address", "127.0.0.1:1", code=3)
            self.assertEqual(done.stderr, "no muster head at 127.0.0.1:1: connection refused (tried for 1 s). "
                                          "Start one with: muster head\n")
            self.assertLess(time.monotonic() - started, 10)
        self.muster("status", "--address", "nonsense:port", code=2)
        self.muster("status", MUSTER_ADDRESS=":", code=2)

    def test_explain_of_an_unknown_task(self):
        head = self.head()
        done = self.muster("explain", "task", "4f2a", "--address", head.address, code=1)
        self.assertIn("no task's id begins with 4f2a", done.stderr)
        done = self.muster("explain", "task", "4f2a", "--address", head.address, "--json", code=1)
        self.assertEqual(json.loads(done.stdout), {"found": "none"})
        head.send_signal(signal.SIGINT)
        self.end(head)

    def test_what_waits_is_shown_and_explained(self):
        address, _ = self.up("--node", "gpus=1,ray.io/accelerator-type=L4,name=n")
        with subprocess.Popen(
            [str(harness.BIN / "waiting"), "--muster-address", address],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=self.environment,
        ) as driver:
            tasks = [driver.stdout.readline().split()[1] for _ in range(20)]
            (waiting,) = harness.wait_until(
                lambda: [row for row in self.status(address)["waiting"] if len(row["requests"]) == 20], "20 tasks to wait")
            self.assertEqual((waiting["class"], waiting["count"], waiting["needs"]), ("Score", 20, "1 CPU, 1 GPU"))
            self.assertEqual(sorted(waiting["requests"]), sorted(tasks))
            self.assertEqual([choice["selector"] for choice in waiting["choices"]],
                             ["accelerator-type=H100", "accelerator-type=in(L4,T4)"])
            text = self.muster("status", "--address", address).stdout
            self.assertRegex(text, r"WAITING +NEEDS +CHOICES +SINCE +WHY\n20 +1 CPU, 1 GPU +H100 > L4\|T4 +\d+s +H100: no such")
            text = self.muster("explain", "task", tasks[3], "--address", address).stdout
            self.assertRegex(text, r"\AScore has waited \d+m?s for 1 CPU, 1 GPU; 3 before it in its class\.\n  1\. ")
            answer = json.loads(self.muster("explain", "task", tasks[0], "--address", address, "--json").stdout)
            self.assertEqual((answer["found"], answer["task"]["id"]), ("one", tasks[0]))
            # 20 ids and 16 digits to begin with.
            digit = next(d for d in "0123456789abcdef" if sum(task.startswith(d) for task in tasks) > 1)
            done = self.muster("explain", "task", digit, "--address", address, code=1)
            self.assertEqual(len(done.stderr.splitlines()), 1 + sum(task.startswith(digit) for task in tasks))
            driver.stdin.close()
            self.assertEqual(driver.wait(PATIENCE), 0)
        self.muster("explain", "task", tasks[0], "--address", address, code=1)
        pids = self.pids(address)
        self.muster("down", "--address", address)
        self.assert_nothing_left(pids)

    def test_selectors(self):
        l4 = "ray.io/accelerator-type=L4"
        self.assertEqual(self.muster("selector", "ray.io/accelerator-type=in(L4,A100),zone=!a", "--labels", l4).stdout,
                         "match\n")
        done = self.muster("selector", '{"zone": "in(a,b)"}', "--labels", "zone=c", code=1)
        self.assertEqual(done.stdout, 'no match: "zone": "in(a,b)": zone is c, not a or b\n')
        done = self.muster("selector", "zone=in(a,", code=2)
        self.assertEqual(done.stderr, 'label selector "zone": "in(a,": ")" is missing; allowed: v, !v, in(a,b), !in(a,b), '
                                      "exists(), !exists(), gt(n), lt(n)\n")
        self.assertEqual(json.loads(self.muster("selector", "a=b", "--labels", "", "--json", code=1).stdout)["match"], False)
        self.assertEqual(json.loads(self.muster("selector", "a=in(", "--json", code=2).stdout)["valid"], False)

    def test_version(self):
        self.assertRegex(self.muster("version").stdout, r"^muster \d+\.\d+\.\d+ \(protocol \d+\)\n$")
        self.assertEqual(set(json.loads(self.muster("version", "--json").stdout)), {"version", "protocol"})


if __name__ == "__main__":
    unittest.main()
