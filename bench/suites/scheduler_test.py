import json
import unittest

from harness.programs import BenchError
from suites.scheduler import records


def aggregate(name, median, **more):
    common = {"run_name": name, "run_type": "aggregate", "time_unit": "ns", "repetitions": 5}
    return [
        {**common, "name": f"{name}_mean", "aggregate_name": "mean", "cpu_time": 1e9, **more},
        {
            **common,
            "name": f"{name}_median",
            "aggregate_name": "median",
            "cpu_time": median,
            **more,
        },
    ]


class SchedulerRecordsTest(unittest.TestCase):
    def test_takes_the_median_of_each_benchmark(self):
        benchmarks = aggregate("BM_GrantFinish/100", 110.5) + aggregate(
            "BM_Match", 20, items_per_second=5e7
        )
        first, second = records(json.dumps({"benchmarks": benchmarks}))
        self.assertEqual(
            (first.name, first.value, first.unit, first.samples),
            ("BM_GrantFinish/100", 110.5, "ns", 5),
        )
        self.assertEqual((first.note, second.note), ("", "50M items/s"))

    def test_percentiles_are_records_beside_the_naive_scan(self):
        benchmarks = aggregate(
            "BM_Decide/nodes:100/classes:64/choices:3/full:70/change_every:0/iterations:10/manual_time",
            300,
            request_p50=150,
            finish_p99=700,
        ) + aggregate("BM_NaiveScan/nodes:100", 3000)
        request, finish, scan = records(json.dumps({"benchmarks": benchmarks}))
        self.assertEqual(
            (request.name, request.value, request.peer, request.ratio),
            ("BM_Decide/nodes:100/classes:64/choices:3/full:70 request p50", 150, "naive scan", 20),
        )
        self.assertEqual((finish.value, finish.peer), (700, ""))
        self.assertEqual((scan.name, scan.value), ("BM_NaiveScan/nodes:100", 3000))

    def test_an_error_in_a_benchmark_is_an_error(self):
        benchmarks = [{"name": "BM_Match", "error_occurred": True, "error_message": "no nodes"}]
        with self.assertRaisesRegex(BenchError, "BM_Match: no nodes"):
            records(json.dumps({"benchmarks": benchmarks}))

    def test_no_output_is_an_error(self):
        for text in ["", "oops", "[]", '{"benchmarks": []}']:
            with self.assertRaises(BenchError):
                records(text)


if __name__ == "__main__":
    unittest.main()
