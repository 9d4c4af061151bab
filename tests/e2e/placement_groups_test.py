"""Placement groups with real processes: where they go, what a killed node and a killed head do to them."""

import pathlib
import unittest

from harness import BIN, ClusterTest, wait_until


class PlacementGroupTest(ClusterTest):
    def group(self, head, strategy, bundles):
        self.go = pathlib.Path(self.folder) / "go"
        return self.start(
            "driver",
            BIN / "placement_groups",
            strategy,
            bundles,
            self.go,
            environment={"MUSTER_ADDRESS": head.address},
        )

    def groups(self, head):
        return self.status(head).get("placement_groups", [])

    def test_strict_spread_is_placed_anew_after_a_node_is_killed(self):
        head = self.head("--node-timeout", "2s")
        self.worker(head, "a", "--num-cpus", "1")
        second = self.worker(head, "b", "--num-cpus", "1")
        driver = self.group(head, "strict_spread", 2)
        driver.wait_for(r"bundle 0 on a\n(.*\n)*bundle 1 on b")
        self.worker(head, "c", "--num-cpus", "1")
        second.kill()
        driver.wait_for(r"placed: a c\nbundle 0 on a\nbundle 1 on c")
        self.go.touch()
        self.assertEqual(driver.end(), 0, driver.text())
        self.assertIn("the placement group was removed", driver.text())
        self.wait_for_idle(head)

    def test_same_rack(self):
        head = self.head()
        self.worker(head, "a", "--num-cpus", "1", "--labels", "rack=1")
        self.worker(head, "b", "--num-cpus", "1", "--labels", "rack=2")
        driver = self.group(head, "same(rack)", 2)
        driver.wait_for(r"placement group pairs can run nowhere: .*same\(rack\)")
        self.worker(head, "c", "--num-cpus", "1", "--labels", "rack=2")
        driver.wait_for(r"placed: b c\nbundle 0 on b\nbundle 1 on c")
        self.go.touch()
        self.assertEqual(driver.end(), 0, driver.text())
        self.wait_for_idle(head)

    def test_group_survives_the_head(self):
        head = self.head()
        self.worker(head, "a", "--num-cpus", "1")
        self.worker(head, "b", "--num-cpus", "1")
        driver = self.group(head, "strict_spread", 2)
        driver.wait_for(r"bundle 1 on b")
        head.kill()
        again = self.head(port=head.address.split(":")[1])

        def held():
            nodes = self.status(again)["nodes"]
            return len(nodes) == 2 and all(n["resources"]["cpus"]["used"] == 1 for n in nodes)

        wait_until(held, "both bundles to be held again")
        self.go.touch()
        self.assertEqual(driver.end(), 0, driver.text())
        self.wait_for_idle(again)


if __name__ == "__main__":
    unittest.main()
