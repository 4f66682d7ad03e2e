"""``ml_lifecycle_reconcile``: the one DAG of a deployment that holds what serves to what the ledger says.

Its DAG file holds two lines::

    from ml_lifecycle.dag_factories.reconcile import airflow_reconcile_dag
    dag = airflow_reconcile_dag(__file__)
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from ml_lifecycle.operators.reconciliation import ReconcileOperator

DAG_ID = "ml_lifecycle_reconcile"
SCHEDULE = "*/15 * * * *"
LONGEST = timedelta(hours=1)

_PAGE = """\
Every quarter of an hour, for every model of this deployment's environment:

- what serves is held against the ledger; an alias that somebody moved by hand is set back, with a row in the audit
- a deployment that was left half done is carried out, or closed where a newer move overtook it
- people of a question's second list are told, once it has waited long enough
- every invariant is checked; the task fails where one is broken that no program can mend, and says which

It needs no approval, because it makes nothing true but what was decided. By hand: **Trigger**.
"""


def airflow_reconcile_dag(file: str) -> DAG:
    """The reconciler of a deployment.

    :param file: The DAG file: ``__file__``.
    """
    with DAG(
        dag_id=DAG_ID,
        description="Hold what serves to what the ledger says",
        schedule=SCHEDULE,
        catchup=False,
        max_active_runs=1,
        default_args={
            "retries": 2,
            "retry_delay": timedelta(seconds=30),
            "execution_timeout": LONGEST,
        },
        doc_md=_PAGE,
        tags=["ml-lifecycle", "reconcile"],
    ) as dag:
        ReconcileOperator(task_id="reconcile")
    dag.fileloc = file
    return dag
