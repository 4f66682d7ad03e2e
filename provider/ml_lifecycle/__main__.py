"""The ``ml-lifecycle`` command: pipeline files, single stages on files, and what the ledger holds; without Airflow."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from ml_lifecycle import __version__
from ml_lifecycle.commands import (
    audit,
    backtest,
    capture,
    decide,
    doctor,
    drift,
    export,
    history,
    keygen,
    labels,
    ledger,
    owners,
    predictions,
    profile,
    serving,
    shadow,
    status,
    trend,
    verify,
)
from ml_lifecycle.commands.output import (
    BAD_INPUT,
    CRASHED,
    DONE,
    FAILED,
    INCONCLUSIVE,
    counted,
    print_json,
    printable_lines,
    publish_copy,
)
from ml_lifecycle.core.errors import DataError, LifecycleError, PipelineError, RequestError

if TYPE_CHECKING:
    from ml_lifecycle.core.contracts import (
        Columns,
        Contract,
        DatasetRef,
        DropRule,
        Evaluation,
        GateRule,
        RunRequest,
        Scalar,
        Source,
        TrainedModel,
    )
    from ml_lifecycle.stages.evaluation import EvaluationJob
    from ml_lifecycle.stages.runner import Tools

Handed = TypeVar("Handed", bound="Contract")

_EXAMPLES = """\
a whole turn on files, in a folder of its own:
  ml-lifecycle validate --suite suite.json --data january.parquet
  ml-lifecycle train --data january.parquet --key flight_id --time departure --target delayed \\
      --estimator sklearn.ensemble.HistGradientBoostingClassifier --json > model.json
  ml-lifecycle evaluate --model model.json --json > evaluation.json
  ml-lifecycle gate --evaluation evaluation.json --rule 'roc_auc>=0.6'
  ml-lifecycle score --model model.json --data february.parquet --output scored.parquet
  ml-lifecycle drift --reference january.parquet --current february.parquet

predictions of any tool, judged by rules:
  ml-lifecycle gate --rules rules.yaml --candidate candidate.parquet --champion champion.parquet

exit codes of every command: 0 done, or what was looked at holds; 1 it does not (a failed verdict, a mistake in a linted
file, a row that was changed); 2 inconclusive: nobody knows; 64 wrong usage, or an input that cannot be used
"""
_RULE = re.compile(r"\s*(\w+)\s*(>=|<=)\s*([-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?)\s*(?:by\s+(\S+)\s*)?")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    options = _parser().parse_args(arguments)
    try:
        code: int = options.command(options)
        sys.stdout.flush()
    except PipelineError as error:
        print(printable_lines(str(error)), file=sys.stderr)
        return BAD_INPUT
    except LifecycleError as error:
        print(f"ml-lifecycle {options.called}: {printable_lines(str(error))}", file=sys.stderr)
        return BAD_INPUT
    except BrokenPipeError:
        # Whoever read our output has gone; Python would complain again when it closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BAD_INPUT
    except Exception:  # noqa: BLE001  # Python would end with 1, which is a verdict
        traceback.print_exc()
        return CRASHED
    return code


# --- What may be asked -----------------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """Ends with the code of bad input, where argparse would end with the one of an inconclusive verdict."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(BAD_INPUT, f"{self.prog}: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="ml-lifecycle",
        description="Check pipeline files, run single stages of a model's life on files, and look after a deployment's "
        "ledger. Airflow is not needed.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"ml-lifecycle {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, dest="called")
    _add_file_commands(commands)
    _add_training_commands(commands)
    _add_model_commands(commands)
    drift.add_parser(commands)
    profile.add_parser(commands)
    serving.add_parser(commands)
    capture.add_parser(commands)
    labels.add_parser(commands)
    shadow.add_parser(commands)
    backtest.add_parser(commands)
    history.add_parser(commands)
    audit.add_parser(commands)
    ledger.add_parser(commands)
    decide.add_parser(commands)
    keygen.add_parser(commands)
    owners.add_parser(commands)
    doctor.add_parser(commands)
    export.add_parser(commands)
    status.add_parser(commands)
    trend.add_parser(commands)
    verify.add_parser(commands)
    return parser


def _add_file_commands(commands: Any) -> None:
    lint = _command(commands, "lint", _lint, "say everything that is wrong with pipeline files, at once")
    lint.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a pipeline's YAML file")
    _json(lint)
    schema = _command(commands, "schema", _schema, "print what a pipeline file may say, as a JSON schema")
    schema.add_argument("--markdown", action="store_true", help="print the reference page instead")
    validate = _command(commands, "validate", _validate, "hold a file to an expectation suite")
    validate.add_argument("--suite", required=True, type=Path, help="Great Expectations suite, a JSON file")
    _data(validate)
    validate.add_argument("--key", help="column that names a row uniquely; left out: the first column that does")
    _workspace(validate)


def _add_training_commands(commands: Any) -> None:
    train = _command(commands, "train", _train, "train a model on a file; its last or random rows are held back")
    _data(train)
    train.add_argument("--key", required=True, help="column that names a row uniquely")
    train.add_argument("--target", required=True, help="column that is predicted")
    train.add_argument("--time", help="column that says when a row's event takes place; the holdout is split by it")
    train.add_argument("--estimator", required=True, help="class, such as sklearn.linear_model.LogisticRegression")
    train.add_argument(
        "--param", action="append", default=[], metavar="NAME=VALUE", help="hyperparameter; may be repeated"
    )
    train.add_argument("--seed", type=int, default=0, help="makes the training repeatable (default: 0)")
    train.add_argument("--holdout", type=float, default=0.2, help="share of rows held back (default: 0.2)")
    train.add_argument(
        "--drop-missing", action="append", default=[], metavar="COLUMN", help="leave out rows without a value here"
    )
    train.add_argument("--name", default="model", help="the model's name (default: model)")
    _features(train)
    train.add_argument("--features", metavar="MODULE:FUNCTION", help="makes the model's input from the rows")
    _workspace(train)


def _add_model_commands(commands: Any) -> None:
    evaluate = _command(commands, "evaluate", _evaluate, "measure a trained model on the rows that it never saw")
    what = evaluate.add_mutually_exclusive_group(required=True)
    what.add_argument("--model", metavar="JSON", help="what train --json printed; - for stdin")
    what.add_argument("--predictions", type=Path, metavar="FILE", help="parquet or csv: key, label, score")
    evaluate.add_argument("--metrics", default="", help="separated by commas (default: those usual for the task)")
    evaluate.add_argument("--slices", default="", help="columns to measure by, separated by commas")
    evaluate.add_argument("--rules", type=Path, metavar="YAML", help="rules or pipeline: what is measured, and how")
    _prediction_files(evaluate)
    gate = _command(commands, "gate", _gate, "judge an evaluation, or files of predictions, by rules")
    what = gate.add_mutually_exclusive_group(required=True)
    what.add_argument("--candidate", type=Path, metavar="FILE", help="parquet or csv: key, label, score")
    what.add_argument("--evaluation", metavar="JSON", help="what evaluate --model --json printed; - for stdin")
    gate.add_argument("--rules", type=Path, metavar="YAML", help="rules file, or a whole pipeline file")
    gate.add_argument(
        "--rule",
        action="append",
        default=[],
        metavar="RULE",
        help="such as 'roc_auc>=0.6', 'log_loss<=0.5' or 'roc_auc>=0.55 by origin'; may be repeated",
    )
    gate.add_argument("--judged", type=int, metavar="N", help="how many candidates these rows judged (default: 1)")
    gate.add_argument("--first-release", action="store_true", help="there is no champion to compare with")
    _prediction_files(gate)
    score = _command(commands, "score", _score, "score a file by a trained model")
    score.add_argument("--model", required=True, metavar="JSON", help="what train --json printed; - for stdin")
    _data(score)
    score.add_argument("--output", required=True, type=Path, help="parquet file that is written whole or not at all")
    _features(score)
    _workspace(score)


def _prediction_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--champion", type=Path, metavar="FILE", help="the champion's predictions of the same rows")
    parser.add_argument("--baseline", type=Path, metavar="FILE", help="a simple prediction of the same rows")
    parser.add_argument(
        "--against",
        action="append",
        default=[],
        metavar="N=FILE",
        help="predictions of a version that a rule names by its number; may be repeated",
    )
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the report for people here")
    _project(parser)
    _workspace(parser)
    predictions.add_columns(parser)


def _command(
    commands: Any, name: str, function: Callable[[argparse.Namespace], int], text: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    parser.set_defaults(command=function)
    return parser


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the result as JSON, which later commands take")


def _data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, type=Path, metavar="FILE", help="parquet or csv")


def _project(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--project", type=Path, default=Path(), help="folder that features are found below (default: the current one)"
    )


def _features(parser: argparse.ArgumentParser) -> None:
    _project(parser)
    parser.add_argument(
        "--related", action="append", default=[], metavar="NAME=FILE", help="a further table for the features"
    )


def _workspace(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--workspace",
        type=Path,
        default=Path(".ml-lifecycle"),
        help="folder of data, runs and ledger, shared by chained commands (default: .ml-lifecycle)",
    )
    _json(parser)


# --- Pipeline files --------------------------------------------------------------------------------------------------


def _lint(options: argparse.Namespace) -> int:
    from ml_lifecycle.pipeline.lint import lint

    documents, unchecked = lint(options.files)
    mistakes = [mistake for document in documents for mistake in document.mistakes]
    if options.json:
        files = [{"file": one.file, "mistakes": [asdict(mistake) for mistake in one.mistakes]} for one in documents]
        print_json({"files": files, "unchecked": list(unchecked)})
    else:
        for mistake in mistakes:
            print(mistake)
        for what in unchecked:
            print(f"not checked: {what}")
        print(f"{counted(len(mistakes), 'mistake')} in {counted(len(documents), 'file')}")
    return FAILED if mistakes else DONE


def _schema(options: argparse.Namespace) -> int:
    from ml_lifecycle.pipeline.schema import json_schema, markdown

    if options.markdown:
        print(markdown(), end="")
    else:
        print_json(json_schema())
    return DONE


# --- Stages ----------------------------------------------------------------------------------------------------------


def _validate(options: argparse.Namespace) -> int:
    from ml_lifecycle.core.contracts import Columns
    from ml_lifecycle.stages.runner import run
    from ml_lifecycle.stages.validation import ValidationJob, validate

    suite = options.suite.resolve()
    tools = _tools(options, suite.parent)
    sources, partition = _land({"rows": options.data}, tools)
    key = options.key or _some_key(sources["rows"], partition, tools)
    dataset = _snapshot("data", sources, partition, columns=Columns(key=key), tools=tools, labelled=False)
    job = ValidationJob(model="data", dataset=dataset, suite=suite.name, on_failure="warn")
    report = run(validate, job, tools, model="data")
    unmet = [
        f"  {one.verdict.value}: {one.expectation} {one.column or ''} {one.detail}".rstrip() for one in report.unmet
    ]
    text = f"{report.verdict.value}: {report.expectations} expectations, {len(unmet)} unmet, {dataset.rows} rows"
    _print_result(options, report, "\n".join([text, *unmet]))
    return _code(report.verdict.value)


def _train(options: argparse.Namespace) -> int:
    from ml_lifecycle.core.contracts import Columns, DropRule, HoldoutSpec
    from ml_lifecycle.stages.runner import run
    from ml_lifecycle.stages.training import TrainingJob, train

    holdout = _checked(HoldoutSpec, {"by": "time" if options.time else "random", "share": options.holdout}, "--holdout")
    tools = _tools(options, options.project)
    sources, partition = _land({"rows": options.data, **_pairs(options.related, "--related", Path)}, tools)
    request = _request(options.name, "train", partition, tools)
    columns = Columns(key=options.key, time=options.time, target=options.target)
    drop = tuple(DropRule(column=column, because=f"{column} is missing") for column in options.drop_missing)
    job = TrainingJob(
        request=request,
        dataset=_snapshot(options.name, sources, partition, columns=columns, tools=tools, drop=drop),
        features=options.features,
        estimator=options.estimator,
        hyperparameters=_pairs(options.param, "--param", _scalar),
        seed=options.seed,
        holdout=holdout,
    )
    model = run(train, job, tools, model=options.name)
    rows = f"{model.training_rows} of {model.dataset.rows} rows"
    _print_result(options, model, f"trained {model.name} on {rows}\n  {model.uri}\n  digest {model.digest}")
    return DONE


def _evaluate(options: argparse.Namespace) -> int:
    from ml_lifecycle.core.contracts import TrainedModel
    from ml_lifecycle.stages.evaluation import evaluate
    from ml_lifecycle.stages.runner import extras_named, run

    metrics, slices = _names(options.metrics), _names(options.slices)
    if options.predictions is not None:
        with extras_named():
            predictions.evaluate(options, metrics, slices)
        return DONE
    _refuse_idle(options, "--model", *predictions.OPTIONS)
    job = _evaluation_job(_handed(options.model, TrainedModel, "train"), options.rules, metrics, slices)
    model = job.model
    evaluation = run(evaluate, job, _tools(options, options.project), model=model.name)
    _print_result(options, evaluation, "\n".join(predictions.measured(evaluation)))
    return DONE


def _evaluation_job(
    model: TrainedModel, rules_file: Path | None, metrics: tuple[str, ...], slices: tuple[str, ...]
) -> EvaluationJob:
    """What is measured: what the rules need, and what is named beside them."""
    from ml_lifecycle.stages.evaluation import EvaluationJob

    if rules_file is None:
        return EvaluationJob(model=model, metrics=metrics, slices=slices)
    from ml_lifecycle.pipeline.rules import read_rules

    rules = read_rules(rules_file)
    return EvaluationJob(
        model=model,
        metrics=tuple(dict.fromkeys((*rules.metrics, *metrics))),
        slices=tuple(dict.fromkeys((*rules.slices, *slices))),
        spec=rules.spec,
        versions=tuple(sorted({rule.versus for rule in rules.gate if isinstance(rule.versus, int)})),
        baseline=any(rule.versus == "baseline" for rule in rules.gate),
    )


def _gate(options: argparse.Namespace) -> int:
    from ml_lifecycle.core.contracts import Evaluation
    from ml_lifecycle.stages.evaluation import GateJob, gate
    from ml_lifecycle.stages.runner import extras_named, run

    rules = tuple(_rule(text) for text in options.rule)
    if options.rules is None and not rules:
        raise RequestError("no rule is given", way_out="name a file by --rules, or write --rule 'roc_auc>=0.6'")
    if options.candidate is not None:
        with extras_named():
            return _code(predictions.gate(options, rules).verdict.value)
    _refuse_idle(options, "--evaluation", "judged", "first_release", *predictions.OPTIONS)
    evaluation = _handed(options.evaluation, Evaluation, "evaluate")
    if options.rules is not None:
        rules = (*_rules_of(evaluation, options.rules), *rules)
    tools = _tools(options, options.project)
    decision = run(gate, GateJob(evaluation=evaluation, rules=rules), tools, model=evaluation.model.name)
    _print_result(options, decision, "\n".join(predictions.told(decision)))
    return _code(decision.verdict.value)


def _rules_of(evaluation: Evaluation, file: Path) -> tuple[GateRule, ...]:
    """A file's rules, where the evaluation was measured as it says."""
    from ml_lifecycle.pipeline.rules import read_rules

    rules = read_rules(file)
    if rules.spec != evaluation.spec:
        raise RequestError(
            "the evaluation was not measured as this file says (cluster, weight, threshold, costs ...)",
            where=str(file),
            way_out=f"evaluate again with --rules {file}",
        )
    return rules.gate


def _score(options: argparse.Namespace) -> int:
    from ml_lifecycle.core.contracts import Columns, Source, TrainedModel
    from ml_lifecycle.stages.runner import run
    from ml_lifecycle.stages.scored_files import PREDICTIONS
    from ml_lifecycle.stages.scoring import ScoringJob, score_with

    if options.output.suffix != ".parquet":
        raise RequestError(f"{options.output} is no parquet file", where="--output", way_out="let its name end so")
    model = _handed(options.model, TrainedModel, "train")
    tools = _tools(options, options.project)
    sources, partition = _land({"rows": options.data, **_pairs(options.related, "--related", Path)}, tools)
    job = ScoringJob(
        request=_request(model.name, "score", partition, tools),
        source=sources["rows"],
        related={name: source for name, source in sources.items() if name != "rows"},
        columns=Columns(key=model.dataset.columns.key, time=model.dataset.columns.time),
        output=Source(uri=f"scored/{model.digest[:16]}/{{{{ partition }}}}"),
    )

    def score(job: ScoringJob, tools: Tools) -> Any:
        return score_with(job, model, tools)

    scored = run(score, job, tools, model=model.name)
    with tools.data.folder(scored.uri, scored.fingerprint) as folder:
        publish_copy(folder / PREDICTIONS, options.output)
    _print_result(options, scored, f"scored {scored.rows} rows into {options.output}")
    return DONE


# --- Files in, files out ---------------------------------------------------------------------------------------------


def _tools(options: argparse.Namespace, project: Path) -> Tools:
    """Real backends in one folder, in the environment ``local``."""
    from ml_lifecycle.backends.data.local import LocalStore
    from ml_lifecycle.backends.ledger.sql import SqlLedger
    from ml_lifecycle.backends.tracking.local import LocalTracking
    from ml_lifecycle.stages.runner import Tools

    root = options.workspace.resolve()
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(
            f"{root} cannot be made ({error.strerror})", where="--workspace", way_out="name a folder you may write to"
        ) from error
    tracking = LocalTracking(root / "tracking")
    return Tools(
        data=LocalStore(root / "data"),
        project=project.resolve(),
        tracking=tracking,
        registry=tracking,
        ledger=SqlLedger(f"sqlite:///{root / 'ledger.db'}"),
        environment="local",
    )


def _land(files: Mapping[str, Path], tools: Tools) -> tuple[dict[str, Source], str]:
    """Copy files into the workspace under the digest of all of them, which is their partition's name."""
    from ml_lifecycle.backends.data.local import check_table_file
    from ml_lifecycle.backends.files import file_digest
    from ml_lifecycle.core.contracts import Source, digest_of

    for path in files.values():
        check_table_file(path)
    partition = digest_of({name: file_digest(path) for name, path in files.items()})[:16]
    sources = {}
    for name, path in files.items():
        sources[name] = Source(uri=f"inputs/{name}/{{{{ partition }}}}{path.suffix}")
        publish_copy(path, tools.data.root / "inputs" / name / f"{partition}{path.suffix}")  # type: ignore[attr-defined]  # a LocalStore
    return sources, partition


def _some_key(source: Source, partition: str, tools: Tools) -> str:
    from ml_lifecycle.core.data import render

    uri = render(source.uri, partition)
    table = tools.data.read_table(uri)
    for name in table.columns:
        if table[name].notna().all() and table[name].is_unique:
            return str(name)
    raise DataError("no column names a row uniquely", where="--data", way_out="add one, and name it with --key")


def _snapshot(
    model: str,
    sources: Mapping[str, Source],
    partition: str,
    *,
    columns: Columns,
    tools: Tools,
    drop: Sequence[DropRule] = (),
    labelled: bool = True,
) -> DatasetRef:
    from ml_lifecycle.stages.data import SnapshotJob, snapshot
    from ml_lifecycle.stages.runner import run

    job = SnapshotJob(
        model=model,
        partitions=(partition,),
        source=sources["rows"],
        related={name: source for name, source in sources.items() if name != "rows"},
        columns=columns,
        drop=tuple(drop),
        labelled=labelled,
    )
    return run(snapshot, job, tools, model=model)


def _request(model: str, stream: str, partition: str, tools: Tools) -> RunRequest:
    from ml_lifecycle.core.contracts import RunRequest
    from ml_lifecycle.stages.runner import record

    values = {"model": model, "stream": stream, "partition": partition, "partitions": (partition,)}
    request = _checked(RunRequest, values, "--name")
    record("resolve", request, tools, model=model)
    return request


def _handed(place: str, contract: type[Handed], command: str) -> Handed:
    """What an earlier command printed."""
    where = "standard input" if place == "-" else place
    try:
        text = sys.stdin.read() if place == "-" else Path(place).read_text(encoding="utf-8")
        content = json.loads(text)
    except OSError as error:
        raise RequestError(f"it cannot be read ({error.strerror})", where=where, way_out="check the path") from error
    except ValueError as error:
        way_out = f"hand in what `ml-lifecycle {command} --json` printed"
        raise RequestError(f"this is no JSON ({error})", where=where, way_out=way_out) from error
    return _checked(contract, content, where, way_out=f"hand in what `ml-lifecycle {command} --json` printed")


def _checked(contract: type[Handed], content: Any, where: str, *, way_out: str = "see --help") -> Handed:
    from pydantic import ValidationError

    from ml_lifecycle.core.contracts import first_mistake

    try:
        return contract.model_validate(content)
    except ValidationError as error:
        raise RequestError(first_mistake(error), where=where, way_out=way_out) from None


def _rule(text: str) -> GateRule:
    from ml_lifecycle.core.contracts import GateRule

    found = _RULE.fullmatch(text)
    if found is None:
        raise RequestError(
            f"{text!r} is not a rule", where="--rule", way_out="write 'roc_auc>=0.6' or 'roc_auc>=0.55 by origin'"
        )
    comparison = "at_least" if found[2] == ">=" else "at_most"
    return _checked(GateRule, {"metric": found[1], comparison: found[3], "each": found[4]}, f"--rule {text!r}")


def _refuse_idle(options: argparse.Namespace, beside: str, *names: str) -> None:
    idle = [f"--{name.replace('_', '-')}" for name in names if getattr(options, name) not in (None, [], False)]
    if idle:
        raise RequestError(f"{', '.join(idle)} means nothing beside {beside}", way_out="hand in files of predictions")


def _pairs(texts: Sequence[str], option: str, read: Callable[[str], Any]) -> dict[str, Any]:
    pairs = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise RequestError(f"{text!r} has no name or no value", where=option, way_out="write NAME=VALUE")
        pairs[name] = read(value)
    return pairs


def _scalar(text: str) -> Scalar:
    """A number, ``true``, ``false`` or ``null`` as JSON writes them, and text otherwise."""
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except ValueError:
        return text
    return value if isinstance(value, str | int | float | bool) or value is None else text


def _refuse_constant(name: str) -> NoReturn:
    raise RequestError(f"{name} is not a number to count with", where="--param", way_out="write a finite number")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


# --- Results out -----------------------------------------------------------------------------------------------------


def _print_result(options: argparse.Namespace, result: Contract, text: str) -> None:
    if options.json:
        print_json(result.to_xcom())
    else:
        print(text)


def _code(verdict: str) -> int:
    return {"pass": DONE, "fail": FAILED}.get(verdict, INCONCLUSIVE)


if __name__ == "__main__":
    sys.exit(main())
