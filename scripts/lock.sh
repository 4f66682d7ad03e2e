#!/usr/bin/env bash
# Resolve all requirements anew, with hashes and without the address of any index.
set -euo pipefail
uv=${1:-uv}
cd "$(dirname "$0")/.."
common=(--quiet --universal --python-version 3.10 --no-python-downloads --generate-hashes --no-header
  --no-emit-index-url --no-emit-find-links --upgrade)
"$uv" pip compile "${common[@]}" --all-extras --group dev pyproject.toml --output-file requirements/dev.txt
"$uv" pip compile "${common[@]}" --constraint requirements/dev.txt requirements/server.in \
  --output-file requirements/server.txt
echo uv | "$uv" pip compile "${common[@]}" - --output-file requirements/bootstrap.txt
