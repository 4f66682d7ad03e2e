"""Where people find the reports that stages publish below the data root."""

from __future__ import annotations

from urllib.parse import quote

from airflow.sdk import conf

REPORTS = "reports"
"""Folder below the data root, and last part of the plugin's address."""
PLUGIN_PREFIX = "/ml-lifecycle"


def report_address(dag_id: str, uri: str) -> str:
    """Where a browser finds a published report; an empty text for a file that is no report.

    :param dag_id: A DAG of the report's model: whoever may read it may read the report.
    """
    folder, _, path = uri.partition("/")
    if folder != REPORTS or not path:
        return ""
    base = str(conf.get("api", "base_url", fallback="") or "").rstrip("/")
    return f"{base}{PLUGIN_PREFIX}/{REPORTS}/{quote(dag_id, safe='')}/{quote(path)}"
