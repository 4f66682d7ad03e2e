"""What a deployment's gates judged, as a folder that :mod:`ml_lifecycle.stages.backtest` replays."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ml_lifecycle.backends.evaluation.rows import BASELINE, CANDIDATE, CHAMPION, ScoredRows
from ml_lifecycle.backends.files import publish_folder, read_parquet, write_parquet
from ml_lifecycle.core.backtest import Outcome
from ml_lifecycle.core.contracts import Evaluation, GateDecision, TrainedModel, Verdict
from ml_lifecycle.core.errors import RequestError
from ml_lifecycle.core.evaluation import PERIODS
from ml_lifecycle.stages.champion import load_trained
from ml_lifecycle.stages.evaluation import read_predictions
from ml_lifecycle.stages.evidence import training_of
from ml_lifecycle.stages.runner import Tools
from ml_lifecycle.stages.training import build_inputs

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

SCORE: Final = "score"


def export_history(
    model: str, folder: Path, tools: Tools, *, later: bool, say: Callable[[str], None] = lambda _: None
) -> tuple[Path, ...]:
    """Write one folder per candidate that a gate judged, oldest first; those that are there stay as they are.

    Columns are named as the pipeline names them, so that its file may be the policy of a backtest.

    :param later: Score candidate and champion on what a later candidate's data brought, too.
    :param say: Told before each candidate.
    :raises RequestError: no gate has judged anything of this model.
    :raises DigestMismatchError: predictions were changed after their evaluation.
    """
    decisions = _decisions(model, tools)
    if not decisions:
        raise RequestError(
            f"no gate has judged a candidate of {model}",
            where=f"environment {tools.environment}",
            way_out="name a model and an environment that the ledger knows",
        )
    written = []
    for number, decision in enumerate(decisions):
        target = folder / _name(number, decision)
        say(f"{number + 1} of {len(decisions)}: {target.name}")
        following = decisions[number + 1 :] if later else ()
        if not target.is_dir():
            publish_folder(target, partial(_write, decision=decision, following=following, tools=tools))
        written.append(target)
    return tuple(written)


def _decisions(model: str, tools: Tools) -> list[GateDecision]:
    """The last one about each evaluation: a gate that ran again judged the same."""
    found: dict[str, GateDecision] = {}
    for result in tools.ledger.results(tools.environment, model, "gate"):
        decision = GateDecision.model_validate(result["content"])
        found[decision.evaluation.content_digest()] = decision
    return list(found.values())


def _name(number: int, decision: GateDecision) -> str:
    trained = decision.evaluation.model
    return f"{number + 1:03d}-{trained.dataset.partitions[-1]}-{trained.digest[:8]}"


def _write(draft: Path, *, decision: GateDecision, following: Sequence[GateDecision], tools: Tools) -> None:
    evaluation = decision.evaluation
    rows = read_predictions(evaluation, tools)
    shared = _shared_columns(rows, evaluation)
    for contender in (CANDIDATE, CHAMPION, BASELINE):
        if contender in rows.scores:
            scored = shared.assign(**_score_columns(SCORE, rows.scores[contender], rows.classes))
            write_parquet(scored, draft / f"{contender}.parquet")
    note = {
        "outcome": _outcome(decision, tools),
        "verdict": decision.verdict.value,
        "digest": evaluation.model.digest,
        "policy_digest": decision.policy_digest,
        "judged": decision.judged,
    }
    (draft / "decision.json").write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")
    came_later = _later(evaluation, following, tools)
    if came_later is not None:
        write_parquet(came_later, draft / "later.parquet")


def _outcome(decision: GateDecision, tools: Tools) -> Outcome:
    """What became of the candidate, whoever decided."""
    trained = decision.evaluation.model
    if any(move.digest == trained.digest for move in tools.ledger.moves(trained.name, tools.environment)):
        return "promoted"
    return "refused" if decision.verdict is Verdict.FAIL else "held"


def _shared_columns(rows: ScoredRows, evaluation: Evaluation) -> pd.DataFrame:
    import pandas as pd

    columns, spec = evaluation.model.dataset.columns, evaluation.spec
    table: dict[str, Any] = {columns.key: rows.keys, str(columns.target): _labels(rows.truth, rows.classes)}
    if columns.time is not None and rows.time is not None:
        table[columns.time] = rows.time
    if spec.weight is not None and rows.weight is not None:
        table[spec.weight] = rows.weight
    if spec.cluster is not None and spec.cluster not in PERIODS and rows.cluster is not None:
        table[spec.cluster] = rows.cluster
    made: pd.DataFrame = pd.DataFrame(table | dict(rows.slices))
    return made


def _labels(truth: NDArray[np.float64], classes: Sequence[str]) -> Any:
    import numpy as np

    return np.array(classes, dtype=object)[truth.astype("int64")] if classes else truth


def _score_columns(name: str, score: NDArray[np.float64], classes: Sequence[str]) -> dict[str, Any]:
    if score.ndim == 1:
        return {name: score}
    return {f"{name}:{label}": score[:, place] for place, label in enumerate(classes)}


# --- What came later -------------------------------------------------------------------------------------------------


def _later(evaluation: Evaluation, following: Sequence[GateDecision], tools: Tools) -> pd.DataFrame | None:
    """Both models on the labelled rows that the next dataset has and the candidate's had not."""
    trained, champion = evaluation.model, evaluation.champion
    dataset = next((one.evaluation.model.dataset for one in following if _is_another(one, trained)), None)
    before = training_of(trained.name, champion.digest, tools) if champion is not None else None
    if dataset is None or before is None:
        return None
    known = set(_keys(trained, tools))
    table: pd.DataFrame | None = None
    for name, one in ((CANDIDATE, trained), (CHAMPION, before)):
        loaded = load_trained(one, tools)
        inputs = build_inputs(dataset, loaded.info.features, tools)
        fresh = ~inputs.rows[dataset.columns.key].isin(known).to_numpy()
        if not fresh.any():
            return None
        if table is None:
            names = [dataset.columns.key, str(dataset.columns.target)]
            names += [dataset.columns.time] if dataset.columns.time is not None else []
            table = inputs.rows.loc[fresh, names].reset_index(drop=True)
        score = loaded.predict(inputs.features[fresh])
        table = table.assign(**_score_columns(name, score, [str(label) for label in loaded.info.classes]))
    return table


def _is_another(decision: GateDecision, trained: TrainedModel) -> bool:
    return decision.evaluation.model.dataset.fingerprint != trained.dataset.fingerprint


def _keys(trained: TrainedModel, tools: Tools) -> Any:
    dataset = trained.dataset
    with tools.data.folder(dataset.uri, dataset.fingerprint) as folder:
        return read_parquet(folder / "data.parquet")[dataset.columns.key]
