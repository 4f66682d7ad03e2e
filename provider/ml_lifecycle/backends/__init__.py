"""The tools behind the stages: one small interface per concern, plain clients, no Airflow."""
