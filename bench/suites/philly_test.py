"""What the philly suite makes of philly_bench's report."""

import unittest

from harness.programs import BenchError
from suites import philly

REPORT = {
    "policy": "fifo",
    "load": 0.95,
    "jobs": 10,
    "gpus": 8,
    "p50_s": 4.0,
    "p95_s": 5.0,
    "p99_s": 6.0,
    "utilisation": 0.5,
    "gap_max": 0.4,
    "gap_mean": 0.2,
    "recalls": 0,
    "us_per_event": 3.0,
}


class PhillyTest(unittest.TestCase):
    def test_fifo_is_the_peer_of_the_others_and_has_none(self):
        self.assertEqual({record.peer for record in philly.records(REPORT, REPORT)}, {""})
        other = {**REPORT, "policy": "fair", "p50_s": 1.0, "utilisation": 1.0}
        delay, _, _, utilisation, *_ = philly.records(other, REPORT)
        self.assertEqual((delay.name, delay.peer, delay.ratio), ("fair at 0.95: delay p50", "fifo", 4.0))
        self.assertEqual(utilisation.ratio, 2.0)

    def test_what_is_no_json_is_an_error(self):
        with self.assertRaises(BenchError):
            philly.parse("no")


if __name__ == "__main__":
    unittest.main()
