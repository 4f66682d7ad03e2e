"""The pages about serving on Kubernetes and behind a contract of one's own say what is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from include.serving_adapter.adapter import adapter
from ml_lifecycle.backends.deployment import target_from
from ml_lifecycle.backends.deployment.http import HttpTarget
from ml_lifecycle.backends.deployment.kserve import KServeTarget
from tests.fakes.endpoint_service import MemoryEndpoint, endpoint_service
from tests.fakes.http_place import Session, means_for
from tests.fakes.places import Place

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
CONTRACT = yaml.safe_load((DOCS / "reference" / "http-target.yaml").read_text())
METHODS = {"get", "put", "delete"}


def operations(page: dict[str, Any]) -> set[tuple[str, str]]:
    """Path and method of everything that an OpenAPI page offers."""
    return {(path, method) for path, item in page["paths"].items() for method in METHODS & set(item)}


def resolved(part: Any) -> Any:
    """A part of the contract with its references filled in."""
    if isinstance(part, list):
        return [resolved(one) for one in part]
    if not isinstance(part, dict):
        return part
    if "$ref" not in part:
        return {name: resolved(value) for name, value in part.items()}
    found: Any = CONTRACT
    for name in part["$ref"].removeprefix("#/").split("/"):
        found = found[name]
    return resolved(found)


def test_the_contract_names_what_the_example_s_adapter_offers(tmp_path: Path) -> None:
    app = adapter(MemoryEndpoint(), tmp_path)

    assert operations(CONTRACT) == operations(app.openapi())


def test_every_reference_in_the_contract_leads_somewhere() -> None:
    assert "$ref" not in json.dumps(resolved(CONTRACT["paths"]))


def test_the_example_s_adapter_tells_what_the_contract_says_that_a_state_is(tmp_path: Path) -> None:
    schema = resolved(CONTRACT["components"]["schemas"]["State"])
    with endpoint_service(tmp_path / "adapter", MemoryEndpoint(slow=0)) as url, Session(url) as session:
        place = Place(HttpTarget(), means_for(url, tmp_path))
        place.serve(1)
        place.means.client("http", "").close()

        state = session.get(f"{url}/models/flights").json()

    assert set(schema["required"]) <= set(state)
    assert set(state) <= set(schema["properties"])
    assert set(state["move"]) == set(schema["properties"]["move"]["properties"])
    assert [set(one) for one in state["versions"]] == [set(schema["properties"]["versions"]["items"]["properties"])]


@pytest.mark.parametrize(("guide", "kind"), [("kserve", KServeTarget), ("http-target", HttpTarget)])
def test_what_a_guide_writes_into_the_pipeline_file_is_a_target(guide: str, kind: type) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", (DOCS / "guides" / f"{guide}.md").read_text(), flags=re.DOTALL)

    assert isinstance(target_from(yaml.safe_load(block)["deployment"]), kind)


@pytest.mark.parametrize(("guide", "kind"), [("kserve", KServeTarget), ("http-target", HttpTarget)])
def test_a_guide_names_every_option(guide: str, kind: type[HttpTarget | KServeTarget]) -> None:
    page = (DOCS / "guides" / f"{guide}.md").read_text()
    everywhere = {"backend", "steps", "analysis", "keep_previous"}

    assert {name for name in kind.model_fields if f"`{name}`" not in page} <= everywhere
