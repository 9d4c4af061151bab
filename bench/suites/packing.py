"""How much of a cluster's GPUs each placement policy fills, over lists of pods.

bench/packing_bench.cc replays them through the real scheduler, and says what each figure is.
`--data DIR` is a folder such as "openb" (or one with a folder openb/): a list of nodes, lists of
pods, and perhaps published.csv, the published figures of other schedulers, which are then the
peers. Curves of allocation against demand are written as SVG, one for each workload, to the folder
MUSTER_BENCH_PLOTS or build/bench_plots/.
"""

from __future__ import annotations

import csv
import json
import os
import pathlib

from harness.programs import ROOT, BenchError, Context, run as run_program
from harness.record import Record

POLICIES = ["pack", "best-fit", "spread", "first-fit"]
DEMANDS = [90, 100, 130]
PEER = "FGD"  # Of the published ones, the best.
COLORS = ["#c1121f", "#1d70b8", "#2a9d4b", "#8d5bb0", "#b0772a", "#4a4a4a", "#1aa6a6", "#d26aa8", "#9a9a00", "#000000"]


def run(context: Context) -> list[Record]:
    program = context.program("packing_bench")
    folder = find_folder(context)
    published = read_published(folder)
    seeds = 2 if context.quick else 10
    found: list[Record] = []
    for workload in workloads(folder):
        reports = []
        for policy in POLICIES:
            context.progress(f"packing: {workload or 'a small set'}, {policy}, {seeds} seeds")
            command = [str(program), "--policy", policy, "--seeds", str(seeds)]
            command += ["--data", str(folder), "--workload", workload] if folder else []
            reports.append(parse(run_program(command, timeout_s=600)))
        name = reports[0]["workload"]
        for report in reports:
            found += records(report, published.get(name, {}))
        path = plots_folder() / f"packing_{name}.svg"
        path.write_text(svg(name, reports, published.get(name, {})))
        context.progress(f"packing: the curves of {name} are in {path}")
    return found


def plots_folder() -> pathlib.Path:
    folder = pathlib.Path(os.environ.get("MUSTER_BENCH_PLOTS") or ROOT / "build" / "bench_plots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def find_folder(context: Context) -> pathlib.Path | None:
    """The folder given, or its folder openb/, where there is a list of pods."""
    if not context.data:
        context.progress("packing: no --data, so a small made-up set")
        return None
    given = pathlib.Path(context.data)
    for folder in (given, given / "openb"):
        if folder.is_dir() and any(folder.glob("*pod_list_*.csv")):
            return folder
    context.progress(f"packing: no *pod_list_*.csv in {given}, so a small made-up set")
    return None


def workloads(folder: pathlib.Path | None) -> list[str]:
    if folder is None:
        return [""]
    return sorted(path.stem.split("pod_list_", 1)[1] for path in folder.glob("*pod_list_*.csv"))


def read_published(folder: pathlib.Path | None) -> dict[str, dict[str, dict[int, float]]]:
    """By workload, policy and demand in percent; empty where there is no published.csv."""
    path = folder / "published.csv" if folder else None
    if path is None or not path.is_file():
        return {}
    found: dict[str, dict[str, dict[int, float]]] = {}
    prefix = "alloc_pct_at_demand_"
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            curve = {int(key[len(prefix) :]): float(text) for key, text in row.items() if key.startswith(prefix)}
            found.setdefault(row["workload"], {})[row["policy"]] = curve
    return found


def parse(text: str) -> dict:
    try:
        return json.loads(text)
    except ValueError as error:
        raise BenchError(f"packing_bench printed no JSON ({error})") from None


def records(report: dict, published: dict[str, dict[int, float]]) -> list[Record]:
    name = f"{report['workload']}, {report['policy']}"
    peer = published.get(PEER, {})
    others = {policy: curve for policy, curve in published.items() if policy != PEER}
    found = []
    for demand in DEMANDS:
        beside = {"peer": f"{PEER} (published)", "peer_value": peer[demand]} if demand in peer else {}
        note = ", ".join(f"{policy} {curve[demand]:.1f}" for policy, curve in others.items() if demand in curve)
        value = report["allocated"][demand - report["demand_first"]]
        found.append(
            Record("packing", f"{name}: allocated at {demand} % demand", value, "%", "higher", report["seeds"], note=note, **beside)
        )
    if report["policy"] != "first-fit":
        note = f"mean {report['mean_ns']:,.0f} ns; {report['nodes']} nodes, {report['classes']} classes"
        found.append(Record("packing", f"{name}: decision, median", report["median_ns"], "ns", "lower", report["seeds"], note=note))
    return found


# --- The plot ---

WIDTH, HEIGHT = 800, 460
LEFT, RIGHT, TOP, BOTTOM = 60, 230, 40, 50


def svg(name: str, reports: list[dict], published: dict[str, dict[int, float]]) -> str:
    """Allocation against demand: muster's policies as lines, published ones as lines with dots."""
    curves = []
    for report in reports:
        points = [(report["demand_first"] + i, value) for i, value in enumerate(report["allocated"])]
        curves.append((f"muster {report['policy']}", points, False))
    for policy, curve in published.items():
        curves.append((f"{policy} (published)", sorted(curve.items()), True))
    lows = [value for _, points, _ in curves for demand, value in points if demand >= 80]
    low, high = 10 * int(min(lows) // 10), 100

    def x(demand: float) -> float:
        return LEFT + (min(max(demand, 80), 130) - 80) / 50 * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="15">{name}: GPUs allocated against demand (both in % of all GPUs)</text>',
    ]
    step = 2 if high - low <= 20 else 5
    for value in range(low, high + 1, step):
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="#e4e4e4"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{value}</text>')
    for demand in range(80, 131, 10):
        parts.append(f'<line x1="{x(demand):.1f}" x2="{x(demand):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="#e4e4e4"/>')
        parts.append(f'<text x="{x(demand):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{demand}</text>')
    parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 12}" text-anchor="middle">demand that has arrived</text>')
    for number, (label, points, dotted) in enumerate(curves):
        color = COLORS[number % len(COLORS)]
        shown = [(x(demand), y(value)) for demand, value in points if demand >= 80]
        line = " ".join(f"{a:.1f},{b:.1f}" for a, b in shown)
        dash = ' stroke-dasharray="4 3"' if dotted else ""
        width = 2.6 if number == 0 else 1.4
        parts.append(f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="{width}"{dash}/>')
        if dotted:
            parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="2.4" fill="{color}"/>' for a, b in shown]
        row = TOP + 10 + 18 * number
        parts.append(
            f'<line x1="{WIDTH - RIGHT + 12}" x2="{WIDTH - RIGHT + 36}" y1="{row}" y2="{row}" stroke="{color}" stroke-width="{width}"{dash}/>'
        )
        parts.append(f'<text x="{WIDTH - RIGHT + 42}" y="{row + 4}">{label}</text>')
    return "\n".join([*parts, "</svg>", ""])
