"""Between jobs, with real processes: preemption, quotas, and what `muster status` says of them."""

import json
import pathlib
import re
import subprocess
import unittest

from harness import BIN, PATIENCE, ClusterTest, wait_until


class SharingTest(ClusterTest):
    def muster(self, head, *arguments, code=0):
        done = subprocess.run(
            [BIN / "muster", *arguments, "--address", head.address], capture_output=True, text=True, timeout=PATIENCE
        )
        self.assertEqual(done.returncode, code, f"{arguments}\n{done.stdout}\n{done.stderr}")
        return done

    def quotas(self, head):
        """The limits in force by quota, and whether each was set at run time."""
        listed = json.loads(self.muster(head, "quota", "--json").stdout)
        return {
            quota["quota"]: ({name: limit["limit"] for name, limit in quota["limits"].items()}, quota["set_at_run_time"])
            for quota in listed
        }

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

    def test_a_quota_set_at_run_time_keeps_back_and_lets_go(self):
        head = self.head()
        self.worker(head, "n", "--num-cpus", "3")
        self.assertEqual(self.muster(head, "quota").stdout, "no quotas\n")
        said = self.muster(head, "quota", "set", "few:tenant=a,cpus=1").stdout
        self.assertRegex(said, r"QUOTA +OF +ON +USED +SET\nfew +tenant a +any node +0/1 cpus +at run time\n")
        of_a = self.hold(head, "a", tasks=3, MUSTER_TENANT="a")
        of_a.wait_for(r"holding")
        waiting = wait_until(lambda: self.status(head)["waiting"], "the other tasks to wait")
        self.assertIn("quota few", waiting[0]["why"])
        self.assertEqual(of_a.text().count("holding"), 1)
        done = json.loads(self.muster(head, "quota", "set", "few:tenant=a,cpus=2", "--json").stdout)
        self.assertEqual(done["limits"]["cpus"]["limit"], 2)
        wait_until(lambda: of_a.text().count("holding") == 2, "the second task to start")
        self.assertEqual(self.muster(head, "quota", "remove", "few").stdout, "quota few is removed\n")
        wait_until(lambda: of_a.text().count("holding") == 3, "the third task to start")
        of_a.let_go.touch()
        self.assertEqual(of_a.end(), 0, of_a.text())

    def test_what_was_set_at_run_time_outlives_the_head_and_lies_over_its_flags(self):
        flags = ("--quota", "flag:cpus=100", "--quota", "gone:cpus=0", "--fair-share", "a=2", "--fair-share", "b=2")
        head = self.head(*flags)
        self.worker(head, "n", "--num-cpus", "2")
        self.muster(head, "quota", "remove", "gone")
        self.muster(head, "quota", "set", "flag:cpus=50")
        self.muster(head, "quota", "set", "few:tenant=a,cpus=1")
        self.muster(head, "fair-share", "set", "a=3")
        self.muster(head, "fair-share", "set", "c=0.5")
        held = self.hold(head, "a", tasks=2, MUSTER_TENANT="a")
        held.wait_for(r"holding")
        wait_until(lambda: self.status(head)["waiting"], "the second task to wait")
        head.kill()
        again = self.head(*flags, port=re.search(r":(\d+)", head.address).group(1))
        self.wait_for_node(again, "n", "alive")
        self.assertEqual(
            self.quotas(again), {"few": ({"cpus": 1}, True), "flag": ({"cpus": 50}, True)}
        )
        tenants = json.loads(self.muster(again, "fair-share", "--json").stdout)
        weights = {tenant["tenant"]: tenant["weight"] for tenant in tenants}
        self.assertEqual({name: weights[name] for name in "abc"}, {"a": 3, "b": 2, "c": 0.5})
        waiting = wait_until(lambda: self.status(again)["waiting"], "the second task to wait again")
        self.assertIn("quota few", waiting[0]["why"])
        self.assertEqual(held.text().count("holding"), 1)
        self.muster(again, "quota", "remove", "few")
        wait_until(lambda: held.text().count("holding") == 2, "the second task to start")
        held.let_go.touch()
        self.assertEqual(held.end(), 0, held.text())

    def test_a_change_that_nobody_keeps_is_said_to_be(self):
        head = self.head("--quota", "flag:cpus=1")
        done = self.muster(head, "quota", "remove", "flag")
        self.assertEqual(done.stderr, "no worker is there to keep it: a head that restarts now forgets it\n")
        self.assertEqual(self.quotas(head), {})
        head.kill()
        again = self.head("--quota", "flag:cpus=1", port=re.search(r":(\d+)", head.address).group(1))
        self.assertEqual(self.quotas(again), {"flag": ({"cpus": 1}, False)})

    def test_quotas_and_weights_are_listed_by_name(self):
        head = self.head("--quota", "a:cpus=1", "--quota", "b:memory=8GiB,zone=east")
        self.worker(head, "n", "--num-cpus", "1")
        self.assertRegex(self.muster(head, "quota").stdout, r"a +everyone +any node +0/1 cpus +by a flag\nb .*8 GiB memory")
        (only,) = json.loads(self.muster(head, "quota", "list", "b", "--json").stdout)
        self.assertEqual((only["quota"], only["selector"]), ("b", "zone=east"))
        self.assertEqual(only["limits"], {"memory": {"used": 0, "limit": 8 << 30}})
        self.assertEqual(self.muster(head, "fair-share").stdout, "no tenants but the default one\n")
        self.assertEqual(self.muster(head, "fair-share", "--json").stdout, "[]\n")
        said = self.muster(head, "fair-share", "set", "x=2.5").stdout
        self.assertRegex(said, r"TENANT +WEIGHT +SHARE +LEASES +WAITING +USES\nx +2\.5 +0\.0% +0 +0 +nothing\n")
        self.assertEqual(json.loads(self.muster(head, "fair-share", "list", "x", "--json").stdout)[0]["weight"], 2.5)
        self.assertEqual(json.loads(self.muster(head, "fair-share", "set", "x=1", "--json").stdout)["weight"], 1)
        self.muster(head, "fair-share", "list", "x", code=1)

    def test_what_is_wrong_is_named_and_changes_nothing(self):
        head = self.head("--quota", "a:cpus=1", "--fair-share", "t=2")
        before = self.status(head)["sharing"]
        for arguments, code, said in (
            (("quota", "remove", "x"), 1, 'there is no quota "x"; muster quota lists them'),
            (("quota", "list", "x"), 1, 'there is no quota "x"'),
            (("quota", "set", "a:cpus=-1"), 2, 'muster quota: quota "a": cpus=-1: must be a number'),
            (("quota", "set", "a:zone=east"), 2, "quota a: 0 limits"),
            (("quota", "set"), 2, "QUOTA is missing"),
            (("quota", "remove"), 2, "QUOTA is missing"),
            (("quota", "remove", "a b"), 2, 'quota: "a b"'),
            (("quota", "a"), 2, 'what is "a"? Only: list, set, remove'),
            (("fair-share", "set", "t=0"), 2, "t=0: must be TENANT=WEIGHT"),
            (("fair-share", "set", "t=1000001"), 2, "with a weight from 0.001 to 1000000"),
            (("fair-share", "set", "=2"), 2, "=2: must be TENANT=WEIGHT"),
            (("fair-share", "set"), 2, "TENANT=WEIGHT is missing"),
            (("fair-share", "remove", "t"), 2, 'what is "remove"? Only: list, set'),
            (("fair-share", "list", "x"), 1, 'there is no tenant "x"'),
        ):
            self.assertIn(said, self.muster(head, *arguments, code=code).stderr)
        self.assertEqual(self.status(head)["sharing"], before)
        for command in (("quota",), ("quota", "set", "a:cpus=1"), ("fair-share",), ("fair-share", "set", "a=2")):
            done = subprocess.run(
                [BIN / "muster", *command, "--address", "127.0.0.1:1"], capture_output=True, text=True, timeout=PATIENCE
            )
            self.assertEqual(done.returncode, 3, done.stderr)

    def test_there_is_a_bound_on_quotas(self):
        flags = [part for number in range(256) for part in ("--quota", f"q{number}:cpus=1")]
        head = self.head(*flags)
        done = self.muster(head, "quota", "set", "more:cpus=1", code=1)
        self.assertEqual(
            done.stderr,
            "quota more: there are 256 quotas already, which is the most allowed; remove one of them\n",
        )
        self.muster(head, "quota", "set", "q7:cpus=2")  # Not one more.
        self.muster(head, "quota", "remove", "q8")
        self.muster(head, "quota", "set", "more:cpus=1")


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
