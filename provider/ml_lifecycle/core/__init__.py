"""Decisions and the values that flow: no Airflow, no input or output, no clock."""
