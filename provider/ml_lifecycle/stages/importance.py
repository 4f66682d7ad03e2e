"""Which of its inputs a champion's answers depend on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ml_lifecycle.backends.evaluation.measurements import USUAL
from ml_lifecycle.backends.evaluation.metrics import measure
from ml_lifecycle.backends.evaluation.rows import CANDIDATE, ScoredRows, Task
from ml_lifecycle.backends.monitoring.importance import permuted, shares
from ml_lifecycle.core.contracts import Evaluation, MeasurementSpec, digest_of
from ml_lifecycle.core.errors import DataError, RequestError
from ml_lifecycle.core.evaluation import HIGHER_IS_BETTER
from ml_lifecycle.stages.champion import Champion, ChampionInfo, load_champion
from ml_lifecycle.stages.contenders import task_of, truth_of
from ml_lifecycle.stages.holdout import split
from ml_lifecycle.stages.runner import Tools
from ml_lifecycle.stages.training import build_inputs

if TYPE_CHECKING:
    import pandas as pd

LAYOUT: Final = 1
MOST_ROWS: Final = 2_000
"""Of the holdout, drawn once."""
_FILE: Final = "importance.json"


def importance_of(champion: ChampionInfo, tools: Tools) -> dict[str, float]:
    """Each input's share in what the champion's metric loses when the input's values are shuffled (Breiman 2001).

    They sum to 1, or are all 0 where no input matters. Measured once per champion, on its holdout, and kept.

    :raises RequestError: the champion has no target to be measured by.
    """
    key = digest_of({"layout": LAYOUT, "rows": MOST_ROWS, "model": champion.move.digest})
    uri = f"reports/importance/{champion.move.model}/v{champion.version}-{key[:16]}"
    if tools.data.published(uri) is None:
        found = _measure(champion, tools)
        text = json.dumps(found, indent=1) + "\n"

        def write(folder: Path) -> None:
            (folder / _FILE).write_text(text, encoding="utf-8")

        tools.data.publish(uri, write)
    with tools.data.folder(uri) as folder:
        return _read(folder / _FILE, uri)


def _read(path: Path, uri: str) -> dict[str, float]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))["importance"]
        return {str(name): float(value) for name, value in content.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"the importance cannot be read ({type(error).__name__})",
            where=uri,
            way_out="remove the folder, and it is measured again",
        ) from error


def _measure(info: ChampionInfo, tools: Tools) -> dict[str, Any]:
    if info.dataset.columns.target is None:
        raise RequestError(
            "a model without a target loses nothing that could be measured", way_out="weigh its inputs by hand"
        )
    champion = load_champion(info.move, tools)
    features, rows = _held(champion, tools)
    # What is shuffled depends on the model only, so that a second measurement says the same.
    seed = int(info.move.digest[:8], 16)
    metric, spec = _metric(info, rows.task, tools)

    def value(scores: Any) -> float | None:
        return measure(metric, replace(rows, scores={CANDIDATE: scores}), spec=spec)

    better = HIGHER_IS_BETTER[metric]
    losses = permuted(champion.predict, features, list(info.info.inputs), value, higher_is_better=better, seed=seed)
    return {"metric": metric, "rows": len(rows), "loss": losses, "importance": shares(losses)}


def _held(champion: Champion, tools: Tools) -> tuple[pd.DataFrame, ScoredRows]:
    """Some of the rows that the champion did not learn from, with their truth."""
    trained, dataset = champion.loaded.trained, champion.dataset
    inputs = build_inputs(dataset, champion.info.features, tools)
    held = split(inputs.rows, dataset.columns, trained.holdout)
    rows = inputs.rows[held]
    if len(rows) > MOST_ROWS:
        rows = rows.sample(MOST_ROWS, random_state=0)
    features: pd.DataFrame = inputs.features.loc[rows.index].reset_index(drop=True)
    rows = rows.reset_index(drop=True)
    classes = champion.info.classes
    return features, ScoredRows(
        task=task_of(classes),
        truth=truth_of(rows, champion.loaded),
        scores={},
        keys=rows[dataset.columns.key].to_numpy(),
        classes=tuple(map(str, classes)),
    )


def _metric(info: ChampionInfo, task: Task, tools: Tools) -> tuple[str, MeasurementSpec]:
    """What the champion was judged by first, of the metrics whose better side is known, and how."""
    move = info.move
    found = tools.ledger.results(tools.environment, move.model, "evaluate", model__digest=move.digest, limit=1)
    for result in found:
        evaluation = Evaluation.model_validate(result["content"])
        for name in evaluation.metrics:
            if name in HIGHER_IS_BETTER:
                return name, evaluation.spec
    return USUAL[task][0], MeasurementSpec()
