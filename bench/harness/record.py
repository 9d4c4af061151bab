"""A Record is one figure of one bench, alone or beside a peer's.

JSON: {"bench", "name", "value", "unit", "better", "samples", "peer", "peer_value", "ratio",
"note"}.
Invariants: better is "lower" or "higher"; ratio is above 1 where muster is ahead, and None where
one of the two values is missing or not positive; peer is "" where there is none; value is None
where only the peer ran.
"""

from __future__ import annotations

import dataclasses
import statistics

HEADERS = ("BENCH", "NAME", "VALUE", "UNIT", "PEER", "PEER VALUE", "RATIO", "NOTE")
RIGHT_ALIGNED = {"VALUE", "PEER VALUE", "RATIO"}


@dataclasses.dataclass(frozen=True)
class Record:
    bench: str
    name: str
    value: float | None
    unit: str
    better: str
    samples: int
    peer: str = ""
    peer_value: float | None = None
    note: str = ""

    def __post_init__(self):
        if self.better not in ("lower", "higher"):
            raise ValueError(
                f'{self.bench} "{self.name}": better is "{self.better}", not lower or higher'
            )

    @property
    def ratio(self) -> float | None:
        if not self.value or not self.peer_value or min(self.value, self.peer_value) < 0:
            return None
        if self.better == "lower":
            return self.peer_value / self.value
        return self.value / self.peer_value

    def to_json(self) -> dict:
        fields = dataclasses.asdict(self)
        note = fields.pop("note")
        return {**fields, "ratio": self.ratio, "note": note}


def median_by_name(runs: list[list[dict]]) -> dict[str, dict]:
    """Merges the measurements of several runs of one program: medians of values, sums of samples.

    Keeps the order in which names first appear.
    """
    by_name: dict[str, list[dict]] = {}
    for run in runs:
        for measurement in run:
            by_name.setdefault(measurement["name"], []).append(measurement)
    return {
        name: {
            **same[0],
            "value": statistics.median(one["value"] for one in same),
            "samples": sum(one["samples"] for one in same),
        }
        for name, same in by_name.items()
    }


def from_measurements(bench: str, measurements: dict[str, dict]) -> list[Record]:
    """Records without a peer."""
    return [
        Record(
            bench, name, one["value"], one["unit"], one["better"], one["samples"], note=one["note"]
        )
        for name, one in measurements.items()
    ]


def side_by_side(
    bench: str, ours: dict[str, dict], peer: str, theirs: dict[str, dict]
) -> list[Record]:
    """A record for each name that both have; all of the peer's where `ours` is empty."""
    records = []
    for name, one in theirs.items():
        if ours and name not in ours:
            continue
        mine = ours.get(name)
        if mine and (mine["unit"], mine["better"]) != (one["unit"], one["better"]):
            raise ValueError(f'{bench} "{name}": muster and {peer} measure different things')
        records.append(
            Record(
                bench,
                name,
                mine["value"] if mine else None,
                one["unit"],
                one["better"],
                mine["samples"] if mine else one["samples"],
                peer,
                one["value"],
                one["note"],
            )
        )
    return records


def format_number(value: float | None) -> str:
    """Three digits that count: 0.0123, 1.23, 123, 1,234,568; "-" for None."""
    if value is None:
        return "-"
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) < 0.001:
        return f"{value:.2e}"
    decimals = 2
    while abs(value) < 10 ** (2 - decimals):
        decimals += 1
    return f"{value:.{decimals - (1 if abs(value) >= 10 else 0)}f}"


def table(records: list[Record], bold: bool = False) -> str:
    """The records in columns; columns that would be empty are left out."""
    rows = [
        (
            record.bench,
            record.name,
            format_number(record.value),
            record.unit,
            record.peer,
            format_number(record.peer_value) if record.peer else "",
            format_number(record.ratio) + "x" if record.ratio else "",
            record.note,
        )
        for record in records
    ]
    kept = [index for index in range(len(HEADERS)) if any(row[index] for row in rows)]
    lines = []
    for row in [HEADERS, *rows]:
        cells = []
        for index in kept:
            width = max(len(other[index]) for other in [HEADERS, *rows])
            right = HEADERS[index] in RIGHT_ALIGNED
            cells.append(row[index].rjust(width) if right else row[index].ljust(width))
        lines.append("  ".join(cells).rstrip())
    if bold:
        lines[0] = f"\033[1m{lines[0]}\033[0m"
    return "\n".join(lines) + "\n"
