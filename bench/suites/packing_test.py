"""What the packing suite makes of packing_bench's report and of published.csv."""

import pathlib
import tempfile
import unittest
import xml.etree.ElementTree

from harness.programs import BenchError
from suites import packing

REPORT = {
    "workload": "default",
    "policy": "pack",
    "seeds": 2,
    "nodes": 10,
    "classes": 3,
    "median_ns": 1000,
    "mean_ns": 1500,
    "demand_first": 50,
    "allocated": [50 + i / 2 for i in range(81)],
}
PUBLISHED = "workload,policy,alloc_pct_at_demand_90,alloc_pct_at_demand_130\ndefault,FGD,80.0,85\ndefault,BestFit,70,75\n"


class PackingTest(unittest.TestCase):
    def published(self):
        with tempfile.TemporaryDirectory() as folder:
            (pathlib.Path(folder) / "published.csv").write_text(PUBLISHED)
            return packing.read_published(pathlib.Path(folder))

    def test_published_figures_stand_beside_those_of_the_same_demand(self):
        at_90, at_100, at_130, decision = packing.records(REPORT, self.published()["default"])
        self.assertEqual((at_90.value, at_90.peer_value, at_90.note), (70.0, 80.0, "BestFit 70.0"))
        self.assertEqual((at_100.value, at_100.peer), (75.0, ""))
        self.assertEqual((at_130.value, at_130.peer_value), (90.0, 85.0))
        self.assertEqual((decision.value, decision.unit, decision.better), (1000, "ns", "lower"))

    def test_without_published_figures_there_is_no_peer(self):
        self.assertEqual({record.peer for record in packing.records(REPORT, {})}, {""})
        with tempfile.TemporaryDirectory() as folder:
            self.assertEqual(packing.read_published(pathlib.Path(folder)), {})

    def test_plot_is_xml_with_a_line_for_each_curve(self):
        root = xml.etree.ElementTree.fromstring(packing.svg("default", [REPORT], self.published()["default"]))
        lines = root.findall("{http://www.w3.org/2000/svg}polyline")
        self.assertEqual(len(lines), 3)

    def test_what_is_no_json_is_an_error(self):
        with self.assertRaises(BenchError):
            packing.parse("no")


if __name__ == "__main__":
    unittest.main()
