"""The DAGs of the model that flight_delays.yaml describes."""

from ml_lifecycle.dag_factories import airflow_dags

globals().update(airflow_dags(__file__))
