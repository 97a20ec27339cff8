"""A set of images that a network can learn in seconds: each class has a colour, under noise."""

from pathlib import Path

import numpy as np

CONFIG = (
    *("validation=24", "batch_size=16", "batches=2", "downsampling=32", "dropout=0"),
    "strategy=[{optimizer: sgd, schedule: cosine, period: 6, warmup: 1, weight_decay: 5e-4, nesterov: true}]",
)


def write_images(path: Path, training: int = 96, test: int = 24, classes: int = 3, seed: int = 0) -> Path:
    """An npz of 32 x 32 images."""
    rng = np.random.default_rng(seed)
    colours = rng.integers(0, 256, (classes, 3))

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = rng.integers(0, classes, count)
        noise = rng.normal(0.0, 25.0, (count, 32, 32, 3))
        return np.clip(colours[labels][:, None, None] + noise, 0, 255).astype(np.uint8), labels

    (x_train, y_train), (x_test, y_test) = draw(training), draw(test)
    y_train[:classes] = np.arange(classes)
    np.savez(path, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    return path
