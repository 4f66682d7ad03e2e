"""What scoring five million rows costs beside a bare loop over row groups with the same model: ``make bench-scoring``.

Every figure comes from a process of its own, its start and imports included. Ours is the stage ``score`` as a worker
runs it: digests, a look for repeated keys, stamped predictions, the model's inputs beside them, and the prediction log.
The bare loop reads a row group, predicts, and writes keys and scores. Then ours is killed at random points, again and
again, until it comes to its end, and the result is compared with the one that was not disturbed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench_drift import Cost, measure, median
from ml_lifecycle.core.contracts import Ask, Columns, GateRule, ModelVersion, RunRequest, Source, Vote

if TYPE_CHECKING:
    from ml_lifecycle.stages.runner import Tools

REPOSITORY = Path(__file__).resolve().parent.parent
RESULT = REPOSITORY / "benchmarks" / "scoring.json"
MODEL, PARTITION = "bench", "2026-01"
FEATURES = [f"x{number}" for number in range(10)]
GOALS = {"wall_over_bare": 1.3, "peak_mb": 1024, "kills": 10}
GROUP_ROWS = 131_072
TRAINING_ROWS = 100_000
BARE = """
import sys
from pathlib import Path
import pyarrow as pa
import pyarrow.parquet as pq
from ml_lifecycle.backends.models.skops import SkopsFormat
package, source, output = map(Path, sys.argv[1:])
model = SkopsFormat().load(package, allowed_types=())
file, writer = pq.ParquetFile(source), None
for group in range(file.num_row_groups):
    table = file.read_row_group(group)
    rows = table.to_pandas()
    scores = model.predict_proba(rows[FEATURES])[:, 1]
    scored = pa.table({"id": table.column("id"), "score": scores})
    writer = writer or pq.ParquetWriter(output, scored.schema, compression="zstd")
    writer.write_table(scored)
writer.close()
""".replace("FEATURES", repr([*FEATURES, "hour", "carrier_code"]))


def write_rows(path: Path, rows: int, seed: int, *, labelled: bool) -> None:
    """Key, time and twelve features, in row groups; keys are in no order."""
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    numbers = rng.permutation(rows)
    writer = None
    for start in range(0, rows, GROUP_ROWS):
        count = min(GROUP_ROWS, rows - start)
        columns: dict[str, Any] = {
            "id": pa.array([f"r{number:09d}" for number in numbers[start : start + count]]),
            "at": pd.Timestamp("2026-01-01", tz="UTC")
            + pd.to_timedelta(np.arange(start, start + count) / rows * 30, "D"),
        }
        columns |= {name: rng.normal(size=count) for name in FEATURES}
        columns |= {"hour": rng.integers(0, 24, count), "carrier_code": rng.integers(0, 16, count)}
        if labelled:
            noise = rng.normal(size=count)
            columns["late"] = columns["x0"] + columns["x1"] * columns["x2"] + columns["hour"] / 24 + noise > 0.5  # noqa: PLR2004
        table = pa.table(columns)
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def tools_in(folder: Path) -> Tools:
    """Real backends below a folder."""
    from ml_lifecycle.backends.data.local import LocalStore
    from ml_lifecycle.backends.ledger.sql import SqlLedger
    from ml_lifecycle.backends.tracking.local import LocalTracking
    from ml_lifecycle.stages.runner import Tools

    tracking = LocalTracking(folder / "tracking")
    return Tools(
        data=LocalStore(folder / "data"),
        project=folder,
        tracking=tracking,
        registry=tracking,
        ledger=SqlLedger(f"sqlite:///{folder / 'ledger.db'}"),
        environment="bench",
    )


def prepare(folder: Path, rows: int) -> None:
    """Write the rows, and release a model of the default hundred rounds."""
    from ml_lifecycle.stages import runner
    from ml_lifecycle.stages.data import SnapshotJob, snapshot
    from ml_lifecycle.stages.evaluation import EvaluationJob, GateJob, RegistrationJob, evaluate, gate, register
    from ml_lifecycle.stages.training import TrainingJob, train

    tools = tools_in(folder)
    write_rows(folder / "data" / "training" / f"{PARTITION}.parquet", TRAINING_ROWS, 1, labelled=True)
    write_rows(folder / "data" / "rows" / f"{PARTITION}.parquet", rows, 2, labelled=False)
    request = RunRequest(model=MODEL, partition=PARTITION, partitions=(PARTITION,), requester="bench")
    source = Source(uri="training/{{ partition }}.parquet")
    columns = Columns(key="id", time="at", target="late")
    taken = snapshot(SnapshotJob(model=MODEL, partitions=(PARTITION,), source=source, columns=columns), tools)
    estimator = "sklearn.ensemble.HistGradientBoostingClassifier"
    model = train(TrainingJob(request=request, dataset=taken, estimator=estimator, seed=7), tools)
    runner.record("train", model, tools, model=MODEL)
    evaluation = evaluate(EvaluationJob(model=model, rehearse=False), tools)
    decision = gate(GateJob(evaluation=evaluation, rules=(GateRule(metric="roc_auc", at_least=0.5),)), tools)
    candidate = register(RegistrationJob(request=request, decision=decision), tools)
    if candidate is None:
        raise RuntimeError("the model did not pass its gate")
    release(candidate, tools)
    (folder / "package").mkdir()
    package = tools.tracking.download(candidate.uri, folder / "package")
    (folder / "package.txt").write_text(str(package))


def release(candidate: ModelVersion, tools: Tools) -> None:
    """Make the candidate champion."""
    now = datetime.now(timezone.utc)
    ask = Ask(
        model=MODEL,
        environment=tools.environment,
        version=candidate.version,
        digest=candidate.digest,
        dataset_fingerprint=candidate.dataset_fingerprint,
        metrics_digest=candidate.metrics_digest,
        gate_verdict=candidate.gate_verdict,
        policy_digest=candidate.policy_digest,
        epoch=0,
    )
    tools.ledger.ask(ask, requested_by="bench", at=now, expires_at=None)
    vote = Vote(ask_id=ask.ask_id, outcome="approve", person="approver", channel="signed", at=now)
    decision = tools.ledger.vote(vote)
    if decision is None:
        raise RuntimeError("one approval is not enough")
    tools.ledger.release(candidate, decision, moved_by="approver", at=now)


def score_once(folder: Path, output: str) -> None:
    """Ours, as a worker runs it."""
    from ml_lifecycle.stages.scoring import ScoringJob, score

    job = ScoringJob(
        request=RunRequest(model=MODEL, stream="score", partition=PARTITION, partitions=(PARTITION,)),
        source=Source(uri="rows/{{ partition }}.parquet"),
        columns=Columns(key="id", time="at"),
        output=Source(uri=f"{output}/{{{{ partition }}}}"),
    )
    print(score(job, tools_in(folder)).model_dump_json())


def shipped() -> dict[str, str]:
    """What deploy/airflow.env sets that concerns scoring."""
    from local_deployment import shared_settings

    return {"OMP_WAIT_POLICY": shared_settings()["OMP_WAIT_POLICY"]}


def ours(folder: Path, output: str) -> list[str]:
    """Our command, into a folder of its own."""
    return [sys.executable, __file__, "--score", str(folder), output]


def compare(folder: Path, rounds: int) -> dict[str, Cost]:
    """The bare loop and ours, in turn; the log is written anew each time."""
    source = folder / "data" / "rows" / f"{PARTITION}.parquet"
    bare = [sys.executable, "-c", BARE, (folder / "package.txt").read_text(), str(source), str(folder / "bare.parquet")]
    found: dict[str, list[Cost]] = {"bare loop": [], "ours": []}
    for number in range(rounds):
        shutil.rmtree(folder / "data" / "log", ignore_errors=True)
        found["bare loop"].append(measure(bare))
        found["ours"].append(measure(ours(folder, f"round{number}"), settings=shipped()))
    return {name: median(costs) for name, costs in found.items()}


def kill_and_finish(folder: Path, kills: int, whole_s: float, seed: int) -> dict[str, Any]:
    """Kill ours at random points, each time a little further; then let it end, and look at what it left."""
    chance, points = random.Random(seed), []  # noqa: S311  # points in time, no secret
    shutil.rmtree(folder / "data" / "log", ignore_errors=True)
    for _ in range(kills):
        points.append(round(chance.uniform(0.1, 0.9) * whole_s, 2))
        process = subprocess.Popen(ours(folder, "killed"), stdout=subprocess.DEVNULL, env=os.environ | shipped())
        try:
            process.wait(points[-1])
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
    start = time.monotonic()
    subprocess.run(ours(folder, "killed"), check=True, stdout=subprocess.DEVNULL, env=os.environ | shipped())
    last_s = round(time.monotonic() - start, 2)
    return {"points_s": points, "last_try_s": last_s, **look_at(folder)}


def look_at(folder: Path) -> dict[str, Any]:
    """Whether the disturbed result is the undisturbed one, and the log has each prediction once."""
    import pyarrow.compute as pc
    import pyarrow.dataset as ds
    import pyarrow.parquet as pq

    names = (
        "predictions.parquet",
        *(path.name for path in sorted((folder / "data/round0" / PARTITION).glob("inputs*"))),
    )
    same = all(
        (folder / "data/round0" / PARTITION / name).read_bytes()
        == (folder / "data/killed" / PARTITION / name).read_bytes()
        for name in names
    )
    keys = pq.read_table(folder / "data/killed" / PARTITION / "predictions.parquet", columns=["id"]).column("id")
    logged = ds.dataset(folder / "data/log/predictions", format="parquet").to_table(columns=["key"]).column("key")
    unfinished = [path for path in (folder / "data/unfinished").rglob("*") if path.is_file()]
    return {
        "same_as_undisturbed": same,
        "rows": len(keys),
        "different_keys": pc.count_distinct(keys).as_py(),
        "logged": len(logged),
        "different_logged": pc.count_distinct(logged).as_py(),
        "files_left": len(unfinished),
    }


def main() -> int:
    """Measure, print, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5_000_000, help="rows that are scored")
    parser.add_argument("--rounds", type=int, default=3, help="processes per figure")
    parser.add_argument("--kills", type=int, default=10, help="how often ours is killed on its way")
    parser.add_argument("--quick", action="store_true", help="fewer rows, to see that it runs; nothing is written")
    parser.add_argument("--prepare", nargs=2, metavar=("FOLDER", "ROWS"), help="only write the rows and the model")
    parser.add_argument("--score", nargs=2, metavar=("FOLDER", "OUTPUT"), help="only score, once")
    options = parser.parse_args()
    if options.prepare:
        prepare(Path(options.prepare[0]), int(options.prepare[1]))
        return 0
    if options.score:
        score_once(Path(options.score[0]), options.score[1])
        return 0
    rows, rounds, kills = (1_200_000, 1, 3) if options.quick else (options.rows, options.rounds, options.kills)
    with tempfile.TemporaryDirectory(prefix="bench-scoring-") as name:
        folder = Path(name)
        subprocess.run([sys.executable, __file__, "--prepare", name, str(rows)], check=True)
        costs = compare(folder, rounds)
        killed = kill_and_finish(folder, kills, costs["ours"].wall_s, 7)
    print(f"{rows:,} rows x 14 columns")
    for what, cost in costs.items():
        print(f"  {what:10} {cost.cpu_s:8.2f} s CPU {cost.wall_s:8.2f} s wall {cost.peak_mb:7.0f} MB")
    ratio = round(costs["ours"].wall_s / costs["bare loop"].wall_s, 2)
    print(f"ours over the bare loop: {ratio} wall; killed {kills} times: {killed}")
    if not options.quick:
        summary = {
            "goals": GOALS,
            "rows": rows,
            "rounds": rounds,
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "versions": {name: version(name) for name in ("pandas", "pyarrow", "scikit-learn")},
            "costs": {name: asdict(cost) for name, cost in costs.items()},
            "wall_over_bare": ratio,
            "killed": killed,
        }
        RESULT.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return 0 if killed["same_as_undisturbed"] else 1


if __name__ == "__main__":
    sys.exit(main())
