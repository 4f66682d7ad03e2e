"""What makes two trainings the same."""

from __future__ import annotations

from collections.abc import Mapping

from ml_lifecycle.core.contracts import HoldoutSpec, Scalar, digest_of


def training_key(
    *,
    model: str,
    dataset_fingerprint: str,
    target: str | None,
    features: str | None,
    features_digest: str | None,
    estimator: str,
    hyperparameters: Mapping[str, Scalar],
    seed: int,
    holdout: HoldoutSpec,
    code_version: str,
    environment_digest: str,
) -> str:
    """Digest over everything that a training depends on: the same key means the same run and the same version."""
    return digest_of(
        {
            "model": model,
            "dataset_fingerprint": dataset_fingerprint,
            "target": target,
            "features": features,
            "features_digest": features_digest,
            "estimator": estimator,
            "hyperparameters": dict(hyperparameters),
            "seed": seed,
            "holdout": holdout.content_digest(),
            "code_version": code_version,
            "environment_digest": environment_digest,
        }
    )
