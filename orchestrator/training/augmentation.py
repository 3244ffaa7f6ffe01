"""Augmentation of a batch: torchvision's transforms, image by image, and DARTS's cutout, which torchvision lacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.tv_tensors import Image, Mask

from orchestrator.data.dataset import Dataset
from orchestrator.training.parts import Parts

Transform = Callable[[Tensor], Tensor]


class Augmentation:
    """What is done to the images of a batch before a network sees them.

    torch's global generator is the source of chance, but for the shifts and flips of `Dataset.augment`, which have one of
    their own. torchvision's transforms draw once per call, so they are called for every image by itself.

    Args:
        parts: The transforms that are switched on.
        data: Normalisation, shifts and flips of the images.
        cropped: Whether images come as random crops already where the parts have such crops: streams cut them out of files,
            in memory they are cut out of images that were made smaller once.
    """

    def __init__(self, parts: Parts, data: Dataset, cropped: bool = False) -> None:
        self.parts, self.data, self.cropped = parts, data, cropped
        self.whole = v2.Compose(self._of_bytes()) if self._of_bytes() else None
        self.erase = v2.RandomErasing(parts.erasing) if parts.erasing else None
        classes = len(data.classes)
        mixing: list[v2.Transform] = [v2.MixUp(alpha=parts.mixup, num_classes=classes)] if parts.mixup else []
        mixing += [v2.CutMix(alpha=parts.cutmix, num_classes=classes)] if parts.cutmix else []
        self.mix = v2.RandomChoice(mixing) if mixing else None

    def _of_bytes(self) -> list[v2.Transform]:
        """Transforms of uint8 images, in the order of DARTS's train_imagenet.py."""
        parts, found = self.parts, []
        if parts.resized_crop:
            if not self.cropped:
                found.append(v2.RandomResizedCrop(self.data.image[1:], scale=(parts.resized_crop, 1.0), antialias=True))
            found += [v2.RandomHorizontalFlip()] if self.data.flip else []
        if parts.jitter:
            found.append(v2.ColorJitter(*parts.jitter))
        if parts.randaugment:
            found.append(v2.RandAugment(magnitude=parts.randaugment))
        return found

    def __call__(self, images: Any, labels: Tensor, rng: np.random.Generator) -> tuple[Any, Tensor]:
        """Augment and normalise a batch.

        Args:
            images: Images, (n, channels, height, width) uint8, or other examples, of which only images are augmented.
            labels: Labels, (n,) int64, or what another task has; maps of the pixels, (n, height, width), move with the images.
            rng: Source of chance of shifts and flips.

        Returns:
            Images, float32, and labels, which after mixup or cutmix are shares of classes, (n, classes).
        """
        if not self.parts.resized_crop:
            images, labels = self.data.augment_both(images, labels, rng)
        if self.whole is not None and self.data.task.maps:
            images, labels = _each_with_map(self.whole, images, labels)
        elif self.whole is not None:
            images = _each(self.whole, images)
        x = self.data.normalise(images)
        if self.erase is not None:
            x = _each(self.erase, x)
        if self.parts.cutout:
            x = cutout(x, self.parts.cutout)
        return self.mix(x, labels) if self.mix is not None else (x, labels)


def _each(transform: Transform, images: Tensor) -> Tensor:
    return torch.stack([transform(image) for image in images])


def _each_with_map(transform: v2.Transform, images: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
    """Transform each image, and move the map of its pixels likewise, by nearest neighbours."""
    pairs = [transform(Image(image), Mask(of)) for image, of in zip(images, maps, strict=True)]
    return torch.stack([image.as_subclass(Tensor) for image, _ in pairs]), torch.stack(
        [m.as_subclass(Tensor) for _, m in pairs]
    )


def cutout(images: Tensor, length: int) -> Tensor:
    """Set a square of each normalised image to 0, whose centre is anywhere, and which the border cuts.

    DeVries and Taylor, arXiv 1708.04552, section 3.2, as in `Cutout` of DARTS's code (cnn/utils.py).

    Args:
        images: Normalised images, (n, channels, height, width).
        length: Side of the square in pixels; an odd one is rounded down.
    """
    n, _, height, width = images.shape

    def kept(size: int) -> Tensor:
        centre = torch.randint(size, (n, 1))
        return (torch.arange(size) < centre - length // 2) | (torch.arange(size) >= centre + length // 2)

    outside = kept(height)[:, :, None] | kept(width)[:, None, :]
    return images * outside[:, None].to(images.device)
