"""End the demo's deployment and every process that it started: ``make down``."""

from __future__ import annotations

import sys

from local_deployment import DeploymentError, LocalDeployment, settings


def main() -> int:
    """Stop; nothing running is fine too."""
    home, _ = settings()
    deployment = LocalDeployment(home)
    was_running = deployment.running()
    try:
        deployment.stop()
    except DeploymentError as error:
        print(f"make down: {error}", file=sys.stderr)
        return 1
    print("stopped" if was_running else f"nothing is running in {home}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
