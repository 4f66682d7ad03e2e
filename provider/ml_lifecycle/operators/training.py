"""A validated dataset in, a model package out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ml_lifecycle.hooks.tasks import Handed
from ml_lifecycle.links import MlflowRunLink, remember_run
from ml_lifecycle.operators.base import LifecycleOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from ml_lifecycle.stages.runner import Tools


class TrainModelOperator(LifecycleOperator):
    """Train once per set of inputs; returns a ``TrainedModel``.

    :param dataset: A snapshot, or the report that passed it.
    :param estimator: Class of an estimator that the deployment allows.
    :param features: ``module:function`` below the project folder that makes the model's input.
    :param hyperparameters: Arguments of the estimator; the request's override them.
    :param seed: Makes the training repeatable.
    :param holdout: ``{"by": "time" | "random", "share": 0.2}``: rows kept back for the evaluation.
    :param data_approval: The policy under which people have to have approved the data, as
        :class:`~ml_lifecycle.operators.approval.ApproveDatasetOperator` takes it; left out, nobody has to.
    """

    template_fields: Sequence[str] = (*LifecycleOperator.template_fields, "dataset")
    operator_extra_links = (MlflowRunLink(),)

    def __init__(
        self,
        *,
        dataset: Handed,
        estimator: str,
        features: str | None = None,
        hyperparameters: Mapping[str, Any] | None = None,
        seed: int = 0,
        holdout: Mapping[str, Any] | None = None,
        data_approval: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.dataset = dataset
        self.estimator = estimator
        self.features = features
        self.hyperparameters = hyperparameters
        self.seed = seed
        self.holdout = holdout
        self.data_approval = data_approval

    def work(self, context: Context, tools: Tools) -> dict[str, Any]:
        """The model package's reference, as plain JSON."""
        from ml_lifecycle.stages import training

        job = self.job(
            training.TrainingJob,
            request=self.resolved(context, tools),
            dataset=self.dataset,
            features=self.features,
            estimator=self.estimator,
            hyperparameters=self.hyperparameters or {},
            seed=self.seed,
            holdout=self.holdout or {},
            data_approval=self.data_approval,
        )
        model = self.conclude(training.train, job, tools)
        remember_run(self, model.run_id, tools)
        return model.to_xcom()
