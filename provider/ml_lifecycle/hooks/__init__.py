"""From Airflow's connections and options to plain clients."""
