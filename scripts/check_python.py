"""Says what is missing before anything is installed; runs on any Python 3."""

import importlib.util
import sys

if not (3, 10) <= sys.version_info[:2] < (3, 14):
    sys.exit(
        "python3 is {}.{}; Airflow 3.3 needs 3.10 to 3.13: make PYTHON=python3.12 ...".format(*sys.version_info[:2])
    )
if importlib.util.find_spec("ensurepip") is None:
    sys.exit("this python3 cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv")
