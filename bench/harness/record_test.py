import json
import unittest

from harness.record import (
    Record,
    format_number,
    from_measurements,
    median_by_name,
    side_by_side,
    table,
)


def measurement(name="sync p50", value=50.0, unit="us", better="lower", samples=10, note=""):
    return {
        "name": name,
        "value": value,
        "unit": unit,
        "better": better,
        "samples": samples,
        "note": note,
    }


class RecordTest(unittest.TestCase):
    def test_ratio_is_above_one_where_muster_is_ahead(self):
        self.assertEqual(Record("b", "latency", 50, "us", "lower", 1, "Ray", 1000).ratio, 20)
        self.assertEqual(Record("b", "rate", 50, "tasks/s", "higher", 1, "Ray", 1000).ratio, 0.05)
        self.assertEqual(Record("b", "rate", 1000, "tasks/s", "higher", 1, "Ray", 50).ratio, 20)

    def test_there_is_no_ratio_without_two_positive_values(self):
        for value, peer_value in [(None, 1), (1, None), (0, 1), (1, 0), (-1, 1), (1, -1), (-1, -1)]:
            for better in ("lower", "higher"):
                self.assertIsNone(Record("b", "n", value, "us", better, 1, "Ray", peer_value).ratio)

    def test_better_is_lower_or_higher(self):
        with self.assertRaisesRegex(ValueError, 'better is "faster"'):
            Record("b", "n", 1, "us", "faster", 1)

    def test_json_has_the_documented_keys_in_order(self):
        keys = [
            "bench",
            "name",
            "value",
            "unit",
            "better",
            "samples",
            "peer",
            "peer_value",
            "ratio",
            "note",
        ]
        fields = Record("b", "n", 2, "us", "lower", 3, "Ray", 4, "why").to_json()
        self.assertEqual(list(fields), keys)
        self.assertEqual(fields["ratio"], 2)
        self.assertIn('"ratio": null', json.dumps(Record("b", "n", 2, "us", "lower", 3).to_json()))


class MedianTest(unittest.TestCase):
    def test_takes_medians_of_values_and_sums_of_samples(self):
        runs = [[measurement(value=value), measurement("async", 7)] for value in (3, 100, 1)]
        merged = median_by_name(runs)
        self.assertEqual(list(merged), ["sync p50", "async"])
        self.assertEqual(merged["sync p50"], measurement(value=3, samples=30))

    def test_a_name_may_be_missing_from_some_runs(self):
        merged = median_by_name(
            [[measurement(value=1)], [measurement(value=2), measurement("async", 5)]]
        )
        self.assertEqual(merged["sync p50"]["value"], 1.5)
        self.assertEqual(merged["async"]["samples"], 10)


class SideBySideTest(unittest.TestCase):
    def test_pairs_what_both_measured(self):
        ours = median_by_name([[measurement(value=50), measurement("only ours")]])
        theirs = median_by_name([[measurement(value=1000, samples=99), measurement("only theirs")]])
        (record,) = side_by_side("peers", ours, "Ray", theirs)
        self.assertEqual(
            (record.name, record.value, record.peer_value, record.samples),
            ("sync p50", 50, 1000, 10),
        )
        self.assertEqual(record.ratio, 20)

    def test_shows_the_peer_alone_where_muster_did_not_run(self):
        (record,) = side_by_side("peers", {}, "Ray", median_by_name([[measurement(value=1000)]]))
        self.assertEqual((record.value, record.peer_value, record.ratio), (None, 1000, None))

    def test_refuses_to_compare_different_units(self):
        ours = median_by_name([[measurement(unit="ms")]])
        with self.assertRaisesRegex(ValueError, "different things"):
            side_by_side("peers", ours, "Ray", median_by_name([[measurement()]]))


class TableTest(unittest.TestCase):
    def test_numbers_have_three_digits_that_count(self):
        shown = {
            None: "-",
            0: "0",
            0.0123: "0.0123",
            0.5: "0.500",
            1.234: "1.23",
            9.87: "9.87",
            12.34: "12.3",
            99.94: "99.9",
            123.4: "123",
            1234567.8: "1,234,568",
            0.00001234: "1.23e-05",
        }
        for value, text in shown.items():
            self.assertEqual(format_number(value), text)

    def test_columns_line_up_and_empty_ones_are_left_out(self):
        records = from_measurements(
            "tasks", median_by_name([[measurement(), measurement("async", 123456.7, "tasks/s")]])
        )
        self.assertEqual(
            table(records),
            "BENCH  NAME        VALUE  UNIT\n"
            "tasks  sync p50     50.0  us\n"
            "tasks  async     123,457  tasks/s\n",
        )

    def test_shows_ratios_beside_the_peer(self):
        text = table([Record("peers", "sync p50", 50, "us", "lower", 1, "Ray", 1000, "why")])
        self.assertIn("PEER  PEER VALUE  RATIO  NOTE", text)
        self.assertIn("Ray        1,000  20.0x  why", text)

    def test_only_a_bold_table_has_escapes(self):
        records = [Record("b", "n", 1, "us", "lower", 1)]
        self.assertNotIn("\033", table(records))
        self.assertTrue(table(records, bold=True).startswith("\033[1mBENCH"))


if __name__ == "__main__":
    unittest.main()
