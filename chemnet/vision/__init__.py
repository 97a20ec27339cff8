"""Image classification, to see what condensation does outside combustion: MobileNetV2 on CIFAR-10.

The names are loaded on first use::

    from chemnet.vision import MobileNetV2, read_images
    images = read_images("cifar-10-batches-py")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOME = {
    "Classifier": "classifier",
    "ImageSet": "images",
    "Images": "images",
    "MobileNetV2": "mobilenet",
    "load_classifier": "classifier",
    "read_images": "images",
}

__all__ = ["Classifier", "ImageSet", "Images", "MobileNetV2", "load_classifier", "read_images"]

if TYPE_CHECKING:
    from chemnet.vision.classifier import Classifier, load_classifier
    from chemnet.vision.images import Images, ImageSet, read_images
    from chemnet.vision.mobilenet import MobileNetV2


def __getattr__(name: str) -> Any:
    """Load an exported name from its module on first use (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
