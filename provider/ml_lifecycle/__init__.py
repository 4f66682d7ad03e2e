"""A machine-learning model's whole life on Apache Airflow."""

__version__ = "0.1.0"
