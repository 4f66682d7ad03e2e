"""Start the demo's deployment and leave it running for a person: ``make up``."""

from __future__ import annotations

import json
import sys

from local_deployment import DeploymentError, LocalDeployment, land, settings


def main() -> int:
    """Land the data, start, and say where to look and as whom."""
    home, ports = settings()
    deployment = LocalDeployment(home, ports)
    try:
        land(deployment, print)
        deployment.start()
    except DeploymentError as error:
        print(f"make up: {error}", file=sys.stderr)
        return 1
    access = json.loads(deployment.access_file.read_text())
    print(f"\nAirflow  {access['airflow']}")
    for user, password in access["users"].items():
        print(f"         {user:9} {password}")
    print(f"MLflow   {access['mlflow']}")
    print(f"Ledger   {access['ledger']}")
    print(f"Logs     {deployment.home / 'logs'}")
    print(
        "\nSign in as engineer and trigger flight_delays_train: no input is needed."
        "\nThen sign in as approver and answer under Required Actions; scoring and monitoring follow by themselves."
        "\nEnd it with: make down"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
