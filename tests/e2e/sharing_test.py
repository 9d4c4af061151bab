"""Between jobs, with real processes: preemption, quotas, and what `muster status` says of them."""

import pathlib
import subprocess
import unittest

from harness import BIN, PATIENCE, ClusterTest, wait_until


class SharingTest(ClusterTest):
    def hold(self, head, name, priority=0, tasks=1, **environment):
        """A driver whose tasks hold a CPU each until its file is there."""
        driver = self.start(
            name,
            BIN / "sharing",
            pathlib.Path(self.folder) / name,
            priority,
            tasks,
            environment={"MUSTER_ADDRESS": head.address, **environment},
        )
        driver.let_go = pathlib.Path(self.folder) / name
        return driver

    def test_preempted_task_is_told_killed_and_run_again_at_no_cost(self):
        head = self.head("--preemption-grace", "2s")
        self.worker(head, "a", "--num-cpus", "1")
        low = self.hold(head, "low")
        first = low.wait_for(r"\(Hold pid=(\d+) node=a\) holding").group(1)
        high = self.hold(head, "high", priority=5)
        low.wait_for(r"told with a deadline preempted: request \d+ \(Hold\) of priority 5 needs 1 CPU")
        high.wait_for(r"\(Hold pid=\d+ node=a\) holding")
        self.assertNotIn("failed", low.text())
        high.let_go.touch()
        self.assertEqual(high.end(), 0, high.text())
        low.wait_for(rf"\(Hold pid=(?!{first}\b)\d+ node=a\) holding")
        low.let_go.touch()
        self.assertEqual(low.end(), 0, low.text())
        self.assertRegex(low.text(), r"result pid=\d+ attempt=0")
        self.wait_for_idle(head)

    def test_without_preemption_priority_waits(self):
        head = self.head("--preemption", "off")
        self.worker(head, "a", "--num-cpus", "1")
        low = self.hold(head, "low")
        low.wait_for(r"holding")
        high = self.hold(head, "high", priority=5)
        wait_until(lambda: self.status(head)["waiting"], "the second task to wait")
        low.let_go.touch()
        self.assertEqual(low.end(), 0, low.text())
        self.assertNotIn("told", low.text())
        high.wait_for(r"holding")
        high.let_go.touch()
        self.assertEqual(high.end(), 0, high.text())

    def test_quota_holds_its_tenant_back_and_nobody_else(self):
        head = self.head("--quota", "few:tenant=a,cpus=1", "--fair-share", "b=2.5")
        self.worker(head, "n", "--num-cpus", "3")
        of_a = self.hold(head, "a", tasks=2, MUSTER_TENANT="a")
        of_a.wait_for(r"holding")
        waiting = wait_until(lambda: self.status(head)["waiting"], "the second task to wait")
        self.assertIn("quota few", waiting[0]["why"])
        of_b = self.hold(head, "b", tasks=2, MUSTER_TENANT="b")
        wait_until(lambda: of_b.text().count("holding") == 2, "both tasks of b to run")
        sharing = self.status(head)["sharing"]
        self.assertEqual(sharing["quotas"][0]["limits"], {"cpus": {"used": 1, "limit": 1}})
        tenants = {tenant["tenant"]: tenant for tenant in sharing["tenants"]}
        self.assertEqual((tenants["a"]["leases"], tenants["a"]["waiting"], tenants["a"]["weight"]), (1, 1, 1))
        self.assertEqual((tenants["b"]["leases"], tenants["b"]["weight"]), (2, 2.5))
        table = subprocess.run(
            [BIN / "muster", "status", "--address", head.address], capture_output=True, text=True, timeout=PATIENCE
        ).stdout
        self.assertRegex(table, r"a +1 +33\.3% +1 +1 +1 CPU")
        self.assertRegex(table, r"few +tenant a +any node +1/1 cpus")
        of_b.let_go.touch()
        self.assertEqual(of_b.end(), 0, of_b.text())
        self.assertEqual(of_a.text().count("holding"), 1)
        of_a.let_go.touch()
        self.assertEqual(of_a.end(), 0, of_a.text())
        self.wait_for_idle(head)

    def test_time_slice_hands_the_lease_on_after_the_running_task(self):
        head = self.head("--time-slice", "1s")
        self.worker(head, "a", "--num-cpus", "1")
        first = self.hold(head, "first", tasks=2)
        first.wait_for(r"holding")
        second = self.hold(head, "second")
        first.wait_for(r"told without a deadline recalled: request \d+ \(Hold\) needs 1 CPU")
        self.assertNotIn("holding", second.text())
        first.let_go.touch()  # Its next task ends at once, whenever it runs.
        second.wait_for(r"holding")
        second.let_go.touch()
        self.assertEqual(second.end(), 0, second.text())
        self.assertEqual(first.end(), 0, first.text())


class UsageTest(unittest.TestCase):
    def test_wrong_options_name_what_is_allowed(self):
        for option, said in (
            ("--backfill=some", "backfill: \"some\" is unknown; allowed: greedy, none, easy, conservative"),
            ("--fair-share=a", "--fair-share=a: must be TENANT=WEIGHT"),
            ("--quota=q:gpus=-1", "--quota: "),
            ("--quota=q:zone=a", "--quota: quota q: 0 limits"),
            ("--preemption=maybe", "--preemption=maybe: must be on or off"),
            ("--topology=a b", "--topology: "),
            ("--overtaken-max=-1", "--overtaken-max=-1: must be a whole number from 0 to 1000000"),
            ("--reservation-after=soon", "--reservation-after=soon: must be a duration"),
        ):
            for command in ("head", "up"):
                done = subprocess.run(
                    [BIN / "muster", command, "--port=0", option], capture_output=True, text=True, timeout=PATIENCE
                )
                self.assertEqual(done.returncode, 2, done.stderr)
                self.assertIn(said, done.stderr)


if __name__ == "__main__":
    unittest.main()
