import contextlib
import io
import os
import sys
import unittest
from unittest import mock

from harness.programs import (
    BenchError,
    Context,
    clean_environment,
    any_left,
    measure,
    parse_measurements,
    run,
)

LINE = (
    '{"name": "sync p50", "value": 51.5, "unit": "us", "better": "lower", "samples": 9, "note": ""}'
)

# Prints the daemon's pid, once the daemon cares for nothing but SIGKILL.
LEAVES_A_DAEMON = """
import os, signal
ready, say_ready = os.pipe()
pid = os.fork()
if pid == 0:
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.write(say_ready, b"x")
    while True:
        signal.pause()
os.read(ready, 1)
print(pid)
"""

# Its first thread has ended, so it is shown as a zombie; another thread and a child live on.
LOOKS_DEAD = """
import ctypes, os, signal, threading
if os.fork() == 0:
    os.setsid()
    while True:
        signal.pause()
threading.Thread(target=threading.Event().wait).start()
ctypes.CDLL(None).syscall(60, 0)
"""

# Answers SIGTERM with SIGINT to the process that is named.
INTERRUPTS_ITS_ENDER = """
import os, signal, sys
ready, say_ready = os.pipe()
if os.fork() == 0:
    os.setsid()
    signal.signal(signal.SIGTERM, lambda *_: os.kill(int(sys.argv[1]), signal.SIGINT))
    os.write(say_ready, b"x")
    while True:
        signal.pause()
os.read(ready, 1)
sys.exit(1)
"""


class MeasurementsTest(unittest.TestCase):
    def test_lines_of_others_are_passed_over(self):
        text = "Ray runtime started.\n" + LINE + "\n" + '{"level": "info"}'
        self.assertEqual([one["value"] for one in parse_measurements(text)], [51.5])

    def test_a_broken_measurement_is_an_error(self):
        for broken in ('{"name": "x", "value": 1', '{"name": "x"}', LINE.replace("51.5", '"fast"')):
            with self.assertRaisesRegex(BenchError, "not a measurement"):
                parse_measurements(broken)

    def test_a_program_that_measures_nothing_is_an_error(self):
        with self.assertRaisesRegex(BenchError, "measured nothing"):
            measure(["true"], 10)


class RunTest(unittest.TestCase):
    def test_gives_stdout(self):
        self.assertEqual(run(["sh", "-c", "echo out; echo err >&2"], 10), "out\n")

    def test_a_failure_shows_how_it_ended_and_what_it_said(self):
        with self.assertRaisesRegex(
            BenchError, "ended with 3; the end of its stderr:\n    no room"
        ):
            run(["sh", "-c", "echo no room >&2; exit 3"], 10)
        with self.assertRaisesRegex(BenchError, "killed by signal 11"):
            run(["sh", "-c", "kill -SEGV $$"], 10)

    def test_a_program_that_is_not_there_is_named(self):
        with self.assertRaisesRegex(BenchError, "cannot start ./nowhere: No such file"):
            run(["./nowhere"], 10)

    def test_a_program_that_takes_too_long_is_ended(self):
        with self.assertRaisesRegex(BenchError, "did not end within 0 s"):
            run(["sleep", "1000"], 0.01)
        self.assertFalse(any_left())

    def test_daemons_are_ended_even_those_that_ignore_sigterm(self):
        with mock.patch("harness.programs.KILL_AFTER_S", 0.1):
            pid = int(run([sys.executable, "-c", LEAVES_A_DAEMON], 10, leaves_daemons=True))
        self.assertFalse(any_left())
        with self.assertRaises(ProcessLookupError):
            os.kill(pid, 0)

    @unittest.skipUnless(os.uname().machine == "x86_64", "by its number on x86-64, the call exit()")
    def test_what_lives_below_a_half_dead_program_is_ended(self):
        with self.assertRaisesRegex(BenchError, "did not end"):
            run([sys.executable, "-c", LOOKS_DEAD], 0.3)
        self.assertFalse(any_left())

    def test_an_interruption_waits_until_all_are_ended(self):
        with mock.patch("harness.programs.KILL_AFTER_S", 0.1), self.assertRaises(KeyboardInterrupt):
            run([sys.executable, "-c", INTERRUPTS_ITS_ENDER, str(os.getpid())], 10)
        self.assertFalse(any_left())

    def test_a_program_that_leaves_processes_behind_is_named(self):
        with (
            mock.patch("harness.programs.KILL_AFTER_S", 0.1),
            mock.patch("harness.programs.LEAVE_WITHIN_S", 0.1),
            contextlib.redirect_stderr(io.StringIO()) as err,
        ):
            run([sys.executable, "-c", LEAVES_A_DAEMON], 10)
        self.assertIn("left 1 process(es) behind", err.getvalue())

    def test_a_running_cluster_is_not_found_through_the_environment(self):
        with mock.patch.dict(
            os.environ, {"MUSTER_ADDRESS": "a:1", "RAY_ADDRESS": "b:2", "LANG": "C"}
        ):
            environment = clean_environment(MORE="1")
        self.assertEqual((environment["LANG"], environment["MORE"]), ("C", "1"))
        self.assertFalse([name for name in environment if name.startswith(("RAY_", "MUSTER_"))])


class ContextTest(unittest.TestCase):
    def test_a_missing_program_says_what_to_build(self):
        with self.assertRaisesRegex(
            BenchError, "build it with scripts/build release no_such_bench"
        ):
            Context(build=False).program("no_such_bench")

    def test_progress_goes_to_stderr(self):
        with contextlib.redirect_stderr(io.StringIO()) as err:
            Context().progress("half way")
        self.assertEqual(err.getvalue(), "bench: half way\n")


if __name__ == "__main__":
    unittest.main()
