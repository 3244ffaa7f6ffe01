"""Check whether the parts of a recipe fit images and a space, before anything is trained."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from orchestrator.data.dataset import Dataset
from orchestrator.errors import InputError
from orchestrator.spaces.base import SearchSpace
from orchestrator.spaces.parts.inputs import Shapes, Tokens
from orchestrator.training.parts import Parts

_OF_IMAGES = ("cutout", "resized_crop", "jitter", "randaugment", "erasing", "cutmix")


_WITH_MAPS = ("resized_crop", "jitter")
"""Parts that move a map of the pixels with the image, or need not."""


def check_fit(parts: Parts, space: SearchSpace, data: Dataset, named: Callable[[str], str]) -> None:
    """Raise InputError for a part that the images or the networks of a space cannot have.

    Args:
        parts: How networks are trained.
        space: Their space.
        data: The images.
        named: Names a part in a message.
    """
    task = data.task
    for part in ("label_smoothing", "mixup", "cutmix", "distill"):
        if getattr(parts, part) and not task.soft:
            raise InputError(
                f"{named(part)}: it mixes classes, and targets of {task.name} are none; write retrain.{part}=0, or "
                "retrain.recipe=plain"
            )
    if parts.mixup and isinstance(data.image, (Shapes, Tokens)):
        raise InputError(f"{named('mixup')}: there is no mean of {data.words}; write retrain.mixup=0, or retrain.recipe=plain")
    for part in _OF_IMAGES if not data.has_images or task.maps else ():
        if getattr(parts, part) and not (data.has_images and part in _WITH_MAPS):
            why = f"targets of {task.name} would have to change with the images" if task.maps else f"these are {data.words}"
            none = "[]" if part == "jitter" else "0"
            raise InputError(
                f"{named(part)}: it changes images, and {why}; write retrain.{part}={none}, or retrain.recipe=plain"
            )
    if parts.auxiliary and task.maps:
        raise InputError(f"{named('auxiliary')}: a second classifier has no map of the pixels; write retrain.auxiliary=0")
    channels, height, width = data.image if data.has_images else (0, 1, 1)
    shape = f"{height}x{width}"
    if data.has_images and parts.cutout >= min(height, width):
        raise InputError(
            f"{named('cutout')}: a square of {parts.cutout} pixels leaves nothing of images of {shape}; papers cut 16 of 32, "
            f"so write retrain.cutout={min(height, width) // 2}, or 0 for none"
        )
    for part in ("jitter", "randaugment"):
        if getattr(parts, part) and channels not in (1, 3):
            none = "[]" if part == "jitter" else "0"
            raise InputError(
                f"{named(part)}: it changes colours, and these images have {channels} channels; write retrain.{part}={none}"
            )
    if parts.resized_crop and min(height, width) < 2:
        raise InputError(f"{named('resized_crop')}: data of {shape} has nothing to crop; write retrain.resized_crop=0")
    if parts.drop_path and type(space).droppable_paths is SearchSpace.droppable_paths:
        raise InputError(
            f"{named('drop_path')}: networks of {space.name} have no paths beside others that could be dropped; write "
            "retrain.drop_path=0"
        )
    if parts.auxiliary and type(space).auxiliary_point is SearchSpace.auxiliary_point:
        raise InputError(
            f"{named('auxiliary')}: {space.name} has no place for a second classifier, as only spaces of cells do; write "
            "retrain.auxiliary=0"
        )
    if parts.dropout and not any(isinstance(m, nn.Linear) for m in space.network((0,) * len(space.sizes)).modules()):
        raise InputError(f"{named('dropout')}: networks of {space.name} have no linear layer; write retrain.dropout=0")
