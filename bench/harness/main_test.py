import contextlib
import io
import json
import os
import tempfile
import unittest
from unittest import mock

from harness.main import bench_names, main
from harness.programs import BenchError
from harness.record import Record
from suites import scheduler, tasks


def call(*arguments):
    """Exit status, stdout and stderr, with a scheduler that measures and tasks that cannot."""
    with (
        mock.patch.object(
            scheduler, "run", return_value=[Record("scheduler", "match", 90, "ns", "lower", 7)]
        ),
        mock.patch.object(tasks, "run", side_effect=BenchError("no muster here")),
        contextlib.redirect_stdout(io.StringIO()) as out,
        contextlib.redirect_stderr(io.StringIO()) as err,
    ):
        try:
            status = main(list(arguments))
        except SystemExit as ended:
            status = ended.code
    return status, out.getvalue(), err.getvalue()


class MainTest(unittest.TestCase):
    def test_the_benches_are_the_files_in_suites(self):
        self.assertEqual(bench_names(), ["scheduler", "tasks", "groups", "packing", "philly", "peers"])

    def test_prints_a_plain_table_where_there_is_no_terminal(self):
        status, out, _ = call("scheduler")
        self.assertEqual(status, 0)
        self.assertEqual(out.splitlines()[1].split(), ["scheduler", "match", "90.0", "ns"])
        self.assertNotIn("\033", out)

    def test_one_failure_leaves_the_others_going(self):
        status, out, err = call("tasks", "scheduler")
        self.assertEqual(status, 1)
        self.assertIn("tasks failed: no muster here", err)
        self.assertIn("match", out)

    def test_json_goes_to_a_file_or_alone_to_stdout(self):
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "records.json")
            status, out, _ = call("--json", path, "scheduler")
            with open(path, encoding="utf-8") as file:
                records = json.load(file)
        self.assertEqual((status, records[0]["name"], records[0]["value"]), (0, "match", 90))
        self.assertIn("BENCH", out)
        self.assertEqual(json.loads(call("--json", "-", "scheduler")[1]), records)

    def test_wrong_usage_is_two(self):
        status, _, err = call("speed")
        self.assertEqual(
            (status, err),
            (2, 'bench: there is no bench "speed"; there are: scheduler, tasks, groups, packing, philly, peers\n'),
        )
        self.assertEqual(call("--fast")[0], 2)
        status, _, err = call("--json", "/nowhere/at/all", "scheduler")
        self.assertEqual(status, 2)
        self.assertIn("cannot write /nowhere/at/all: No such file", err)

    def test_help_names_each_bench_and_gives_examples(self):
        status, out, _ = call("--help")
        self.assertEqual(status, 0)
        for text in ["scheduler ", "tasks ", "peers ", "scripts/bench --quick scheduler"]:
            self.assertIn(text, out)


if __name__ == "__main__":
    unittest.main()
