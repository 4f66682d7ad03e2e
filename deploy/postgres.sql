-- Beside Airflow's own database: one for the tracking server, one for the ledger.
CREATE DATABASE mlflow;
CREATE DATABASE ledger;
