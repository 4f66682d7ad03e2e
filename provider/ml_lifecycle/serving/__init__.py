"""Programs that run a packaged model in a process of its own: no Airflow."""
