"""What looking for drift costs beside Evidently's preset and beside merely reading the files: ``make bench-drift``.

Every figure comes from a process of its own, its start and imports included: CPU seconds, wall seconds and peak memory
as the operating system counts them for that process. Ours is the command ``ml-lifecycle drift``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
RESULT = REPOSITORY / "benchmarks" / "drift.json"
GOALS = {"evidently_cpu_over_ours": 20, "stored_over_first": 0.6, "large_over_reading": 3}
PEAK_MB, LARGE_PEAK_MB = 1536, 2048
LIMIT_S = 3600
READ = """
import sys
import pyarrow.parquet as pq
for path in sys.argv[1:]:
    for name in pq.read_schema(path).names:
        pq.read_table(path, columns=[name])
"""
READ_GROUPS = """
import sys
import pyarrow.parquet as pq
for path in sys.argv[1:]:
    file = pq.ParquetFile(path)
    for group in range(file.num_row_groups):
        file.read_row_group(group)
"""
EVIDENTLY = """
import sys
import pandas as pd
from evidently import Report
from evidently.presets import DataDriftPreset
reference, current = (pd.read_parquet(path) for path in sys.argv[1:])
Report([DataDriftPreset()]).run(current, reference).dict()
"""


@dataclass(frozen=True)
class Cost:
    """What one process took."""

    cpu_s: float
    wall_s: float
    peak_mb: float


def measure(command: list[str], accepted: tuple[int, ...] = (0,), *, settings: Mapping[str, str] | None = None) -> Cost:
    """Run a command to its end; its children count, too.

    :param settings: Further variables of its environment.
    :raises RuntimeError: it ended otherwise than it may.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment |= settings or {}
    with tempfile.TemporaryFile() as said:
        start = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.monotonic() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in accepted:
            said.seek(0)
            raise RuntimeError(f"{command} ended with {process.returncode}: {said.read()[-2000:].decode()}")
    return Cost(usage.ru_utime + usage.ru_stime, wall_s, usage.ru_maxrss / 1024)


def median(costs: list[Cost]) -> Cost:
    """The middle of each figure, and the greatest memory."""
    return Cost(
        cpu_s=round(statistics.median(one.cpu_s for one in costs), 2),
        wall_s=round(statistics.median(one.wall_s for one in costs), 2),
        peak_mb=round(max(one.peak_mb for one in costs)),
    )


def write_table(path: Path, rows: int, seed: int) -> None:
    """Twenty columns: normal, lognormal, Cauchy, whole, with many zeros, with holes, categories."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(seed)
    writer = None
    for start in range(0, rows, 1_000_000):
        count = min(1_000_000, rows - start)
        columns: dict[str, Any] = {f"normal_{one}": rng.normal(one, 1 + one, count) for one in range(5)}
        columns |= {f"lognormal_{one}": rng.lognormal(one, 1, count) for one in range(3)}
        columns |= {f"cauchy_{one}": rng.standard_cauchy(count) for one in range(2)}
        columns |= {"few_whole": rng.integers(0, 100, count), "whole": rng.poisson(5000, count)}
        columns["zeros"] = np.where(rng.random(count) < 0.8, 0.0, rng.gamma(2, 3, count))  # noqa: PLR2004
        for one in range(3):
            columns[f"holes_{one}"] = pa.array(rng.normal(size=count), mask=rng.random(count) < (one + 1) / 10)
        for kinds in (3, 30, 150, 1000):
            names = np.array([f"value {one}" for one in range(kinds)])
            columns[f"category_{kinds}"] = names[rng.integers(0, kinds, count)]
        table = pa.table(columns)
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def make(files: list[Path], rows: int, seed: int) -> None:
    """Write the tables in processes of their own: a measured one would inherit the peak memory of this one."""
    for place, path in enumerate(files):
        subprocess.run([sys.executable, __file__, "--write", str(path), str(rows), str(seed + place)], check=True)


def drift(reference: Path, current: Path) -> list[str]:
    """Our command; 0 to 2 are verdicts."""
    return [sys.executable, "-m", "ml_lifecycle", "drift", "--reference", str(reference), "--current", str(current)]


def compare_small(folder: Path, rows: int, rounds: int, *, evidently: bool) -> dict[str, Cost]:
    """Evidently, ours, ours with a stored reference, and reading, on the same two files, in turn."""
    files = [folder / "reference.parquet", folder / "current.parquet"]
    make(files, rows, 0)
    stored = folder / "stored"
    names = [str(path) for path in files]
    count = [sys.executable, "-m", "ml_lifecycle", "profile", "--data", names[0], "--out", str(stored)]
    commands = {
        "reading both files": [sys.executable, "-c", READ, *names],
        "ours": drift(*files),
        "ours, reference stored": drift(stored, files[1]),
    }
    found: dict[str, list[Cost]] = {"counting the reference": [measure(count)]}
    for _ in range(rounds):
        for name, command in commands.items():
            found.setdefault(name, []).append(measure(command, (0, 1, 2)))
    if evidently:
        found["Evidently's DataDriftPreset"] = [measure([sys.executable, "-c", EVIDENTLY, *names])]
    return {name: median(costs) for name, costs in found.items()}


def compare_large(folder: Path, rows: int, rounds: int) -> dict[str, Cost]:
    """Ours and reading, on two files that are ten times as long."""
    files = [folder / "large_reference.parquet", folder / "large_current.parquet"]
    make(files, rows, 10)
    commands = {
        "reading both files": [sys.executable, "-c", READ, *map(str, files)],
        "reading by row groups": [sys.executable, "-c", READ_GROUPS, *map(str, files)],
        "ours": drift(*files),
    }
    found: dict[str, list[Cost]] = {}
    for _ in range(rounds):
        for name, command in commands.items():
            found.setdefault(name, []).append(measure(command, (0, 1, 2)))
    return {name: median(costs) for name, costs in found.items()}


def ratios(small: dict[str, Cost], large: dict[str, Cost]) -> dict[str, float]:
    """What the goals are about."""
    found = {
        "stored_over_first": small["ours, reference stored"].cpu_s / small["ours"].cpu_s,
        "stored_over_first_wall": small["ours, reference stored"].wall_s / small["ours"].wall_s,
        "large_over_reading": large["ours"].wall_s / large["reading both files"].wall_s,
        "large_over_reading_cpu": large["ours"].cpu_s / large["reading both files"].cpu_s,
    }
    if (other := small.get("Evidently's DataDriftPreset")) is not None:
        found["evidently_cpu_over_ours"] = other.cpu_s / small["ours"].cpu_s
        found["evidently_wall_over_ours"] = other.wall_s / small["ours"].wall_s
    return {name: round(value, 2) for name, value in found.items()}


def told(title: str, costs: dict[str, Cost]) -> None:
    """Print a table."""
    print(title)
    for name, cost in costs.items():
        print(f"  {name:28} {cost.cpu_s:8.2f} s CPU {cost.wall_s:8.2f} s wall {cost.peak_mb:7.0f} MB")


def main() -> int:
    """Measure, print, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of each file")
    parser.add_argument("--rounds", type=int, default=3, help="processes per figure of ours and of reading")
    parser.add_argument("--no-evidently", action="store_true", help="leave Evidently out, which takes minutes")
    parser.add_argument("--quick", action="store_true", help="small files, to see that it runs; nothing is written")
    parser.add_argument("--write", nargs=3, metavar=("FILE", "ROWS", "SEED"), help="only write one of the files")
    options = parser.parse_args()
    if options.write:
        path, count, seed = options.write
        write_table(Path(path), int(count), int(seed))
        return 0
    rows, rounds = (20_000, 1) if options.quick else (options.rows, options.rounds)
    with tempfile.TemporaryDirectory(prefix="bench-drift-") as folder:
        small = compare_small(Path(folder), rows, rounds, evidently=not options.no_evidently)
        told(f"{rows:,} rows x 20 columns, both files", small)
        large = compare_large(Path(folder), 10 * rows, rounds)
        told(f"{10 * rows:,} rows x 20 columns, both files", large)
    found = ratios(small, large)
    print(", ".join(f"{name} {value}" for name, value in found.items()))
    if not options.quick and not options.no_evidently:
        summary = {
            "goals": {**GOALS, "peak_mb": PEAK_MB, "large_peak_mb": LARGE_PEAK_MB},
            "rows": rows,
            "rounds": rounds,
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "versions": {name: version(name) for name in ("duckdb", "evidently", "pandas", "pyarrow")},
            "small": {name: asdict(cost) for name, cost in small.items()},
            "large": {name: asdict(cost) for name, cost in large.items()},
            "ratios": found,
        }
        RESULT.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
