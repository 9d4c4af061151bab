"""Node affinity as an application says it, with two nodes of real processes."""

import pathlib
import re
import subprocess
import unittest

from harness import BIN, PATIENCE, ClusterTest, wait_until


class AffinityTest(ClusterTest):
    def two_nodes(self):
        """Node "small", which policies prefer for small work, has two CPUs, "large" four."""
        head = self.head()
        self.worker(head, "small", "--num-cpus", "2")
        self.worker(head, "large", "--num-cpus", "4")
        return head

    def run_there(self, head, node, how, count, infeasible="wait", what="tasks"):
        let_go = pathlib.Path(self.folder) / f"go-{len(self.processes)}"
        driver = self.start(
            "driver", BIN / "affinity", node, how, infeasible, what, count, let_go,
            environment={"MUSTER_ADDRESS": head.address},
        )
        driver.let_go = let_go
        return driver

    def nodes(self, driver):
        return sorted(re.findall(r"\) on (\w+)", driver.text()))

    def finish(self, driver):
        driver.let_go.touch()
        self.assertEqual(driver.end(), 0, driver.text())
        return sorted(re.findall(r"^result (\w+)", driver.text(), re.MULTILINE))

    def test_hard_goes_there_and_waits_for_it(self):
        head = self.two_nodes()
        driver = self.run_there(head, "small", "hard", 3)
        wait_until(lambda: self.nodes(driver) == ["small"] * 2, "two tasks on small")
        waiting = wait_until(lambda: self.status(head)["waiting"], "the third task to wait")
        self.assertEqual(waiting[0]["needs"], "1 CPU, on node small")
        task = wait_until(lambda: self.status(head)["waiting"][0]["requests"], "its id")[0]
        said = subprocess.run(
            [BIN / "muster", "explain", "task", task, "--address", head.address],
            capture_output=True, text=True, timeout=PATIENCE,
        ).stdout
        self.assertIn("no other node than small will do", said)
        self.assertEqual(self.finish(driver), ["small"] * 3)
        other = self.run_there(head, "large", "hard", 1)  # Which no policy would choose.
        other.wait_for(r"on large")
        self.assertEqual(self.finish(other), ["large"])

    def test_soft_goes_there_first_and_elsewhere_when_it_is_full(self):
        head = self.two_nodes()
        driver = self.run_there(head, "large", "soft", 6)
        wait_until(lambda: self.nodes(driver) == ["large"] * 4 + ["small"] * 2, "all six to run")
        seventh = self.run_there(head, "large", "soft", 1)
        waiting = wait_until(lambda: self.status(head)["waiting"], "one more to wait")
        self.assertEqual(waiting[0]["needs"], "1 CPU, rather on node large")
        self.finish(driver)
        seventh.wait_for(r"on \w+")
        self.finish(seventh)

    def test_soft_to_a_node_that_is_not_there_goes_elsewhere(self):
        head = self.two_nodes()
        driver = self.run_there(head, "gone", "soft", 1, infeasible="fail")
        driver.wait_for(r"on \w+")
        self.finish(driver)

    def test_hard_to_a_node_that_is_not_there_is_infeasible(self):
        head = self.two_nodes()
        failed = self.run_there(head, "third", "hard", 1, infeasible="fail")
        self.assertEqual(failed.end(), 1)
        self.assertRegex(
            failed.text(), r"FAILED_PRECONDITION: Hold can run nowhere: needs 1 CPU, on node third; .*third is not there"
        )
        waits = self.run_there(head, "third", "hard", 1)
        waits.wait_for(r"Hold can run nowhere: .*node third is not there.*Waiting")
        self.worker(head, "third", "--num-cpus", "1")
        waits.wait_for(r"on third")
        self.assertEqual(self.finish(waits), ["third"])

    def test_ranks_are_all_there(self):
        head = self.two_nodes()
        ranks = self.run_there(head, "large", "hard", 4, what="ranks")
        wait_until(lambda: self.nodes(ranks) == ["large"] * 4, "all ranks on large")
        self.assertEqual(self.finish(ranks), ["large"] * 4)
        too_many = self.run_there(head, "small", "hard", 3, infeasible="fail", what="ranks")
        self.assertEqual(too_many.end(), 1)
        self.assertRegex(too_many.text(), r"FAILED_PRECONDITION: .*needs 3 times 1 CPU, on node small")
        over = self.run_there(head, "large", "soft", 5, what="ranks")
        wait_until(lambda: self.nodes(over) == ["large"] * 4 + ["small"], "the fifth rank elsewhere")
        self.finish(over)


if __name__ == "__main__":
    unittest.main()
