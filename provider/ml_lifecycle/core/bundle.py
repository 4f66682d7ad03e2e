"""What a bundle says of the model in it, and what a channel says of the bundle that apps and devices are to use."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field

from ml_lifecycle.core.contracts import DIGEST, NAME, Contract, Scalar

LAYOUT: Literal[1] = 1
"""Of archive and pointer: a loader refuses others than its own."""
ONNX_TOLERANCE: Final = 1e-5
"""How far answers by ONNX may be from training's: it computes in single precision, whose unit is 6e-8, and an ensemble
sums hundreds of terms. Relative for answers beyond 1."""
SKOPS_TOLERANCE: Final = 1e-6
"""How far the answers of the very model may be, which another processor rounds otherwise."""


class BundleInput(Contract):
    """One thing that the model is asked by."""

    name: str
    kind: Literal["number", "category"]


class BundleFormat(Contract):
    """One way to answer."""

    name: Literal["skops", "onnx"]
    file: str
    tolerance: float
    """How far its answers to the golden rows may be from training's; relative for answers beyond 1."""
    types: tuple[str, ...] = ()
    """Everything that a skops file holds: nothing else is loaded."""


class BundleFile(Contract):
    """One file of the archive."""

    path: str
    size: int
    sha256: str = Field(pattern=DIGEST)


class BundleManifest(Contract):
    """What is signed of a bundle. The same release by the same key and program is always the same bytes."""

    layout: Literal[1] = LAYOUT
    model: str = Field(pattern=NAME)
    version: int
    digest: str = Field(pattern=DIGEST)
    """Of the model package that was approved: ``package/`` without its own name."""
    environment: str
    decision_id: str | None
    """The approval that it rests on."""
    training_key: str
    dataset_fingerprint: str
    """Of what it was trained on."""
    inputs: tuple[BundleInput, ...]
    """In the order of the golden rows' values."""
    outputs: tuple[str, ...]
    """``score``: the number, or of two classes the second one's probability; of more classes a name for each."""
    classes: tuple[Scalar, ...] = ()
    formats: tuple[BundleFormat, ...]
    files: tuple[BundleFile, ...]
    """All but the manifest and its signature, sorted by path."""


class ChannelPointer(Contract):
    """What is signed of a channel: which bundle is to be used."""

    layout: Literal[1] = LAYOUT
    model: str = Field(pattern=NAME)
    environment: str
    channel: str = Field(pattern=NAME)
    epoch: int
    """Devices take no pointer with a lower one than they have seen."""
    version: int
    digest: str = Field(pattern=DIGEST)
    decision_id: str | None
    bundle: str
    """The archive's name beside the pointer."""
    sha256: str = Field(pattern=DIGEST)
    """Of the archive."""
    size: int
