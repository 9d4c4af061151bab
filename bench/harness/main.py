"""The command line of scripts/bench."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pkgutil
import signal
import sys

import suites
from harness.programs import BenchError, Context
from harness.record import Record, table

EXIT_DONE, EXIT_FAILED, EXIT_USAGE = 0, 1, 2

EPILOG = """examples:
  scripts/bench                               all of them
  scripts/bench --quick scheduler             a rough figure of the decisions' cost, in seconds
  scripts/bench --json peers.json peers       muster beside Ray, figures to a file
  scripts/bench --data traces philly          the policies over a trace of jobs
  scripts/bench --data traces packing         how much of the GPUs each placement policy fills
  scripts/bench --only-peer peers             Ray alone, where muster is not built

exit codes: 0 done; 1 a bench failed (the others went on); 2 wrong usage
"""


def bench_names() -> list[str]:
    """In the order to run them: the quick ones first, the peers last."""
    modules = [module.name for module in pkgutil.iter_modules(suites.__path__)]
    names = [name for name in modules if not name.endswith("_test")]
    order = {"scheduler": 0, "tasks": 1, "peers": 3}
    return sorted(names, key=lambda name: (order.get(name, 2), name))


def parser(names: list[str]) -> argparse.ArgumentParser:
    listed = []
    for name in names:
        summary = (importlib.import_module(f"suites.{name}").__doc__ or "").splitlines()[0]
        listed.append(f"  {name:<11}{summary}")
    result = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measures the release build and prints a table.\n\nbenches:\n"
        + "\n".join(listed),
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    result.add_argument(
        "names", nargs="*", metavar="NAME", help="which to run; all where none is named"
    )
    result.add_argument(
        "--quick", action="store_true", help="fewer and shorter runs: rough figures, soon"
    )
    result.add_argument(
        "--json",
        metavar="FILE",
        help="also write the records there; - is stdout, without the table",
    )
    result.add_argument(
        "--data", metavar="DIR", help="a folder of traces, for the benches that replay one"
    )
    result.add_argument("--no-build", action="store_true", help="take build/release as it is")
    result.add_argument(
        "--only-peer", action="store_true", help="in `peers`: run the others without muster"
    )
    return result


def run_benches(names: list[str], context: Context) -> tuple[list[Record], bool]:
    """The records of all that went well, and whether all did."""
    records: list[Record] = []
    all_went_well = True
    for name in names:
        try:
            records += importlib.import_module(f"suites.{name}").run(context)
        except BenchError as error:
            print(f"bench: {name} failed: {error}", file=sys.stderr, flush=True)
            all_went_well = False
    return records, all_went_well


def write_json(file, records: list[Record]) -> None:
    json.dump([record.to_json() for record in records], file, indent=1)
    file.write("\n")


def main(arguments: list[str]) -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    names = bench_names()
    flags = parser(names).parse_args(arguments)
    unknown = [name for name in flags.names if name not in names]
    if unknown:
        print(
            f'bench: there is no bench "{unknown[0]}"; there are: {", ".join(names)}',
            file=sys.stderr,
        )
        return EXIT_USAGE
    to_file = flags.json not in (None, "-")
    if to_file:  # Now, rather than after an hour of measuring.
        try:
            with open(flags.json, "a", encoding="utf-8"):
                pass
        except OSError as error:
            print(f"bench: cannot write {flags.json}: {error.strerror}", file=sys.stderr)
            return EXIT_USAGE

    context = Context(quick=flags.quick, build=not flags.no_build, only_peer=flags.only_peer, data=flags.data)
    wanted = [name for name in names if name in flags.names] if flags.names else names
    try:
        records, all_went_well = run_benches(wanted, context)
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    if to_file:
        with open(flags.json, "w", encoding="utf-8") as file:
            write_json(file, records)
    if flags.json == "-":
        write_json(sys.stdout, records)
    elif records:
        bold = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        sys.stdout.write(table(records, bold))
    return EXIT_DONE if all_went_well else EXIT_FAILED
