"""Image classification, a test of condensation outside combustion: five networks on CIFAR-10.

The names are loaded on first use::

    from chemnet.vision import MobileNetV2, read_images
    images = read_images("cifar-10-batches-py")
"""

from typing import TYPE_CHECKING

from chemnet.runtime.lazy import exports

_HOMES = {
    "Classifier": "classifier",
    "ImageSet": "images",
    "Images": "images",
    "MobileNetV2": "mobilenet",
    "ResNet": "resnet",
    "VGG": "vgg",
    "VisionTransformer": "vit",
    "load_classifier": "classifier",
    "read_images": "images",
}

__all__ = [
    "Classifier",
    "ImageSet",
    "Images",
    "MobileNetV2",
    "ResNet",
    "VGG",
    "VisionTransformer",
    "load_classifier",
    "read_images",
]
__getattr__, __dir__ = exports(__name__, _HOMES)

if TYPE_CHECKING:
    from chemnet.vision.classifier import Classifier, load_classifier
    from chemnet.vision.images import Images, ImageSet, read_images
    from chemnet.vision.mobilenet import MobileNetV2
    from chemnet.vision.resnet import ResNet
    from chemnet.vision.vgg import VGG
    from chemnet.vision.vit import VisionTransformer
