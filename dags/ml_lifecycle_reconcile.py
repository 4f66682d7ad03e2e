"""The DAG that holds what serves to what the ledger says, for all models of the deployment."""

from ml_lifecycle.dag_factories.reconcile import airflow_reconcile_dag

dag = airflow_reconcile_dag(__file__)
