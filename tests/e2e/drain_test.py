"""Nodes that drain and GPUs in quarantine, with real processes and an operator's commands."""

import json
import pathlib
import re
import subprocess
import unittest

from harness import BIN, PATIENCE, ClusterTest, wait_until


class DrainTest(ClusterTest):
    def hold(self, head, name, tasks=1):
        """A driver whose tasks hold a CPU each until its file is there."""
        let_go = pathlib.Path(self.folder) / name
        driver = self.start(
            name, BIN / "sharing", let_go, 0, tasks, environment={"MUSTER_ADDRESS": head.address}
        )
        driver.let_go = let_go
        return driver

    def muster(self, head, *arguments):
        return subprocess.run(
            [BIN / "muster", *arguments, "--address", head.address], capture_output=True, text=True, timeout=PATIENCE
        )

    def node(self, head, name):
        return [n for n in self.status(head)["nodes"] if n["id"] == name][0]

    def test_drain_tells_its_work_and_runs_it_elsewhere_at_no_cost(self):
        head = self.head()
        self.worker(head, "a", "--num-cpus", "1")
        work = self.hold(head, "work")
        first = work.wait_for(r"\(Hold pid=(\d+) node=a\) holding").group(1)
        self.worker(head, "b", "--num-cpus", "1")
        done = self.muster(head, "drain", "a", "--deadline", "2s", "--reason", "kernel update")
        self.assertEqual((done.returncode, done.stdout), (0, "node a is draining; what runs there ends in 2s\n"))
        work.wait_for(r"told with a deadline draining: node a is draining: kernel update")
        work.wait_for(rf"\(Hold pid=(?!{first}\b)\d+ node=b\) holding")
        wait_until(lambda: self.node(head, "a")["drain"]["empty"], "node a to be empty")
        self.assertEqual(self.node(head, "a")["drain"]["reason"], "kernel update")
        table = self.muster(head, "status").stdout
        self.assertRegex(table, r"a +empty, and may be taken away: kernel update")
        work.let_go.touch()
        self.assertEqual(work.end(), 0, work.text())
        self.assertRegex(work.text(), r"result pid=\d+ attempt=0")

    def test_drain_without_a_deadline_keeps_work_and_is_taken_back(self):
        head = self.head()
        self.worker(head, "a", "--num-cpus", "2")
        old = self.hold(head, "old")
        old.wait_for(r"holding")
        self.assertEqual(self.muster(head, "drain", "a").stdout, "node a is draining\n")
        new = self.hold(head, "new")
        wait_until(lambda: self.status(head)["waiting"], "the second task to wait")
        done = self.muster(head, "drain", "a", "--undo", "--json")
        self.assertEqual(json.loads(done.stdout)["state"], "alive")
        new.wait_for(r"holding")
        for driver in (old, new):
            driver.let_go.touch()
            self.assertEqual(driver.end(), 0, driver.text())
            self.assertNotIn("told", driver.text())

    def test_a_drain_and_a_quarantine_outlive_the_head(self):
        head = self.head()
        self.worker(head, "a", "--num-cpus", "2", "--num-gpus", "2")
        self.worker(head, "b", "--num-cpus", "2")
        self.assertEqual(self.muster(head, "quarantine", "a", "--gpu", "1", "--reason", "xid 79").returncode, 0)
        self.assertEqual(self.muster(head, "drain", "b", "--reason", "old").returncode, 0)
        head.kill()
        again = self.head(port=re.search(r":(\d+)", head.address).group(1))
        self.wait_for_node(again, "b", "draining")
        self.wait_for_node(again, "a", "alive")
        self.assertEqual(self.node(again, "b")["drain"]["reason"], "old")
        self.assertEqual(self.node(again, "a")["quarantine"], [{"gpu": 1, "reason": "xid 79"}])

    def test_quarantine_is_in_status_and_in_the_way(self):
        head = self.head()
        self.worker(head, "a", "--num-cpus", "2", "--num-gpus", "2")
        done = self.muster(head, "quarantine", "a", "--gpu", "1", "--reason", "xid 79")
        self.assertEqual((done.returncode, done.stdout), (0, "GPU 1 of node a is in quarantine\n"))
        self.assertRegex(self.muster(head, "status").stdout, r"a +GPU 1 in quarantine: xid 79")
        said = self.muster(head, "whatif", "--request", "gpus=2").stdout
        self.assertIn("1 of 2 GPUs in quarantine: xid 79", said)
        self.assertEqual(self.muster(head, "quarantine", "a", "--gpu", "1", "--undo").returncode, 0)
        self.assertEqual(self.node(head, "a")["quarantine"], [])

    def test_what_is_wrong_is_named(self):
        head = self.head()
        self.worker(head, "a", "--num-cpus", "1", "--num-gpus", "1")
        for arguments, code, said in (
            (("drain", "x"), 1, 'there is no node "x"'),
            (("drain",), 2, "NODE"),
            (("drain", "a", "--undo", "--deadline", "3s"), 2, "--undo goes with neither"),
            (("quarantine", "a", "--gpu", "1"), 1, "there is no GPU 1: the node has 1"),
            (("quarantine", "a"), 2, "--gpu is missing"),
        ):
            done = self.muster(head, *arguments)
            self.assertEqual(done.returncode, code, done.stderr)
            self.assertIn(said, done.stderr)
        done = subprocess.run(
            [BIN / "muster", "drain", "a", "--address", "127.0.0.1:1"], capture_output=True, text=True, timeout=PATIENCE
        )
        self.assertEqual(done.returncode, 3, done.stderr)


if __name__ == "__main__":
    unittest.main()
