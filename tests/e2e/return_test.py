"""Long-lived work that returns to its first choice, with real processes."""

import pathlib
import re
import unittest

from harness import BIN, ClusterTest, wait_until

FOREVER_MS = 600_000


class ReturnTest(ClusterTest):
    def train(self, head, how, ranks=1, moves=1, grace_ms=FOREVER_MS):
        let_go = pathlib.Path(self.folder) / "go"
        driver = self.start(
            "train", BIN / "returning", let_go, how, ranks, moves, grace_ms, environment={"MUSTER_ADDRESS": head.address}
        )
        driver.let_go = let_go
        return driver

    def spot(self, head, name, cpus=2):
        return self.worker(head, name, "--num-cpus", cpus, "--labels", "ray.io/market-type=spot")

    def returns(self, how, ranks):
        head = self.head()
        self.worker(head, "demand", "--num-cpus", 2)
        train = self.train(head, how, ranks)
        train.wait_for(r"rank 0 generation 0 on demand choice 1")
        self.spot(head, "spot")
        for rank in range(ranks):
            train.wait_for(rf"rank {rank} saves: return_to_preferred: choice 1 of 2 \(market-type=spot\) has room")
            train.wait_for(rf"rank {rank} generation 1 on spot choice 0")
        train.let_go.touch()
        self.assertEqual(train.end(), 0, train.text())
        self.assertEqual(len(re.findall(r"ended on spot", train.text())), ranks, train.text())
        self.wait_for_idle(head)

    def test_rank_whose_call_saves_goes_on_where_it_asked_for_first(self):
        self.returns("aside", ranks=1)

    def test_ranks_that_save_by_themselves_return_together(self):
        self.returns("self", ranks=2)

    def test_rank_that_does_nothing_is_killed_and_returns(self):
        head = self.head()
        self.worker(head, "demand", "--num-cpus", 1)
        train = self.train(head, "never", grace_ms=300)
        train.wait_for(r"generation 0 on demand choice 1")
        self.spot(head, "spot")
        train.wait_for(r"generation 1 on spot choice 0")
        train.let_go.touch()
        self.assertEqual(train.end(), 0, train.text())

    def test_budget_of_moves_is_kept(self):
        head = self.head()
        self.worker(head, "demand", "--num-cpus", 1)
        train = self.train(head, "aside", moves=1)
        train.wait_for(r"generation 0 on demand choice 1")
        first = self.spot(head, "first")
        train.wait_for(r"generation 1 on first choice 0")
        first.kill()
        self.assertEqual(train.end(), 1, train.text())  # max_restarts is 0: the death was no move.

    def test_without_moves_it_stays(self):
        head = self.head()
        self.worker(head, "demand", "--num-cpus", 1)
        train = self.train(head, "aside", moves=0)
        train.wait_for(r"generation 0 on demand choice 1")
        self.spot(head, "spot")
        wait_until(lambda: len(self.status(head)["nodes"]) == 2, "the second node")
        train.let_go.touch()
        self.assertEqual(train.end(), 0, train.text())
        self.assertNotIn("saves", train.text())
        self.assertIn("ended on demand", train.text())

    def test_head_that_dies_meanwhile_loses_the_room_and_nothing_else(self):
        head = self.head()
        self.worker(head, "demand", "--num-cpus", 1)
        train = self.train(head, "never")
        train.wait_for(r"generation 0 on demand choice 1")
        self.spot(head, "spot")
        wait_until(lambda: len(self.status(head)["nodes"]) == 2, "the second node")
        address = head.address
        head.kill()
        self.head(port=int(address.rsplit(":", 1)[1]))
        train.let_go.touch()
        self.assertEqual(train.end(), 0, train.text())


if __name__ == "__main__":
    unittest.main()
