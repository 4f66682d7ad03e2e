"""What a person does on Airflow's page, over its REST API: trigger, look, answer."""

from __future__ import annotations

import time
from typing import Any

import requests

TIMEOUT_S = 60
TRIES = 5
PAUSE_S = 1.0
BUSY = "Database error"
"""What Airflow says when its database did not take a statement; its transaction was undone."""


class AirflowClient:
    """One signed-in user.

    :param url: Airflow's address, such as ``http://127.0.0.1:8080``.
    """

    def __init__(self, url: str, user: str, password: str) -> None:
        self.url = url
        self.user = user
        self.asked_again = 0
        """How often a call was made anew because Airflow's database was busy."""
        self._session = requests.Session()
        answer = self._session.post(
            f"{url}/auth/token", json={"username": user, "password": password}, timeout=TIMEOUT_S
        )
        answer.raise_for_status()
        self.token = str(answer.json()["access_token"])
        self._session.headers["Authorization"] = f"Bearer {self.token}"

    def close(self) -> None:
        """Give the connection back."""
        self._session.close()

    def call(self, method: str, path: str, **options: Any) -> Any:
        """One call below ``/api/v2``; a refusal is raised with Airflow's own words."""
        answer = self.send(method, path, **options)
        if not answer.ok:
            raise requests.HTTPError(f"{method} {path}: {answer.status_code} {answer.text[:500]}", response=answer)
        return answer.json() if answer.content else None

    def send(self, method: str, path: str, **options: Any) -> requests.Response:
        """As :meth:`call`, with Airflow's answer as it is.

        What a busy SQLite refused is asked again: it has done nothing.
        """
        for _ in range(TRIES):
            answer = self._session.request(method, f"{self.url}/api/v2/{path}", timeout=TIMEOUT_S, **options)
            if answer.status_code != requests.codes.server_error or BUSY not in answer.text:
                break
            self.asked_again += 1
            time.sleep(PAUSE_S)
        return answer

    def dags(self) -> set[str]:
        """Names of the DAGs that Airflow has read."""
        return {dag["dag_id"] for dag in self.call("GET", "dags", params={"limit": 1000})["dags"]}

    def import_errors(self) -> list[str]:
        """What Airflow's banner says about DAG files that it could not read."""
        return [error["stack_trace"] for error in self.call("GET", "importErrors")["import_errors"]]

    def trigger(self, dag_id: str, **conf: Any) -> str:
        """Start a run by hand; returns its id."""
        run = self.call("POST", f"dags/{dag_id}/dagRuns", json={"logical_date": None, "conf": conf})
        return str(run["dag_run_id"])

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """All runs of a DAG, oldest first."""
        found = self.call("GET", f"dags/{dag_id}/dagRuns", params={"limit": 100, "order_by": "id"})
        return list(found["dag_runs"])

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """The tasks of a run as they stand."""
        return list(self.call("GET", f"dags/{dag_id}/dagRuns/{run_id}/taskInstances")["task_instances"])

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value") -> Any:
        """What a task handed on."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}"
        return self.call("GET", path, params={"deserialize": "true"})["value"]

    def links(self, dag_id: str, run_id: str, task_id: str) -> dict[str, str | None]:
        """The buttons of a task: address by name."""
        found = self.call("GET", f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/links")
        return dict(found["extra_links"])

    def required_actions(self, dag_id: str) -> list[dict[str, Any]]:
        """Questions of a DAG that nobody has answered yet."""
        found = self.call("GET", f"dags/{dag_id}/dagRuns/~/hitlDetails", params={"response_received": "false"})
        return list(found["hitl_details"])

    def answer(self, question: dict[str, Any], option: str, **form: Any) -> None:
        """Answer a question of :meth:`required_actions`."""
        task = question["task_instance"]
        path = (
            f"dags/{task['dag_id']}/dagRuns/{task['dag_run_id']}"
            f"/taskInstances/{task['task_id']}/{task['map_index']}/hitlDetails"
        )
        self.call("PATCH", path, json={"chosen_options": [option], "params_input": form})

    def log(self, dag_id: str, run_id: str, task_id: str, try_number: int) -> list[dict[str, Any]]:
        """What a task wrote into its log: one mapping a line, with ``event`` and mostly ``level``."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{try_number}"
        found = self.call("GET", path, params={"full_content": "true"}, headers={"Accept": "application/json"})
        return [line for line in found["content"] if isinstance(line, dict)]
