"""Deployment targets, found by the name that the YAML's ``deployment.backend`` gives."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from pydantic import ValidationError

from ml_lifecycle.backends.deployment.base import ALL, DeploymentTarget, SplittingTarget, Step
from ml_lifecycle.core.errors import LifecycleError, UnknownBackendError

_TARGETS = {
    "alias": ("ml_lifecycle.backends.deployment.alias", "AliasTarget"),
    "bundle": ("ml_lifecycle.backends.deployment.bundle", "BundleTarget"),
    "http": ("ml_lifecycle.backends.deployment.http", "HttpTarget"),
    "kserve": ("ml_lifecycle.backends.deployment.kserve", "KServeTarget"),
    "local": ("ml_lifecycle.backends.deployment.local", "LocalTarget"),
    "sagemaker": ("ml_lifecycle.backends.deployment.sagemaker", "SageMakerTarget"),
}
"""Module and class by name; a module is imported when its target is asked for."""


def known_targets() -> tuple[str, ...]:
    """The names that ``backend`` may have, sorted."""
    return tuple(sorted(_TARGETS))


def target_type(name: str) -> type[DeploymentTarget]:
    """The class of the target of this name.

    :raises UnknownBackendError: no target has it.
    """
    if name not in _TARGETS:
        raise UnknownBackendError("deployment", name, known_targets())
    module, made_by = _TARGETS[name]
    kind: type[DeploymentTarget] = getattr(import_module(module), made_by)
    return kind


def target_from(options: Mapping[str, Any]) -> DeploymentTarget:
    """The target that ``options["backend"]`` names, with the other options as its fields.

    :raises UnknownBackendError: no target has this name.
    :raises LifecycleError: an option is unknown, or has a value that the target does not take.
    """
    name = str(options.get("backend", ""))
    kind = target_type(name)
    try:
        return kind.model_validate(dict(options))
    except ValidationError as error:
        raise LifecycleError(
            "; ".join(_mistakes(error)),
            where=f"deployment backend {name!r}",
            way_out=f"its options are {', '.join(sorted(kind.model_fields))}",
        ) from None


def steps_of(options: Mapping[str, Any]) -> tuple[Step, ...]:
    """The steps of a release before all traffic; none where it gets everything at once."""
    target = target_from(options)
    steps = target.steps if isinstance(target, SplittingTarget) else ()
    return tuple(step for step in steps if step != ALL)


def _mistakes(error: ValidationError) -> list[str]:
    # What was given may be a secret in the wrong place: only the option's name is repeated.
    found = error.errors(include_url=False, include_input=False, include_context=False)
    return [f"{'.'.join(map(str, one['loc'])) or 'options'}: {one['msg']}" for one in found]
