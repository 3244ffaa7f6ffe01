"""Small models as published code writes them, with the blocks of torchvision where it has them."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn
from torchvision.models import VisionTransformer
from torchvision.models.efficientnet import EfficientNet, MBConvConfig
from torchvision.models.mobilenetv3 import InvertedResidualConfig, MobileNetV3
from torchvision.models.resnet import BasicBlock

from orchestrator.spaces.elastic.space import elastic


class SmallResNet(nn.Module):
    """Two stages of torchvision's basic blocks."""

    def __init__(self, classes: int = 10, colours: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(colours, 8, 3, padding=1, bias=False)
        self.bn1, self.relu = nn.BatchNorm2d(8), nn.ReLU(inplace=True)
        self.layer1 = nn.Sequential(BasicBlock(8, 8), BasicBlock(8, 8))
        shortcut = nn.Sequential(nn.Conv2d(8, 16, 1, 2, bias=False), nn.BatchNorm2d(16))
        self.layer2 = nn.Sequential(BasicBlock(8, 16, 2, shortcut), BasicBlock(16, 16))
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(16, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        return self.fc(torch.flatten(self.avgpool(self.layer2(self.layer1(x))), 1))  # type: ignore[no-any-return]


def resnet() -> nn.Module:
    return stirred(SmallResNet())


def mobilenet() -> nn.Module:
    block = partial(InvertedResidualConfig, dilation=1, width_mult=1.0)
    blocks = [
        block(8, 3, 16, 8, False, "RE", stride=1),
        block(8, 5, 16, 16, True, "HS", stride=2),
        block(16, 5, 32, 16, True, "HS", stride=1),
    ]
    return stirred(one_colour(MobileNetV3(blocks, last_channel=32, num_classes=10)))


def efficientnet() -> nn.Module:
    block = partial(MBConvConfig, width_mult=1.0, depth_mult=1.0)
    blocks = [block(1, 3, 1, 8, 8, 1), block(2, 5, 2, 8, 16, 2)]
    return stirred(one_colour(EfficientNet(blocks, dropout=0.0, last_channel=32, num_classes=10)))


def transformer() -> nn.Module:
    model = VisionTransformer(8, 4, 2, 4, 16, 32, num_classes=10)
    model.conv_proj = nn.Conv2d(1, 16, 4, 4)
    return stirred(model)


def one_colour(model: Any) -> Any:
    """Replace the first convolution by one for grey images."""
    first = model.features[0][0]
    model.features[0][0] = nn.Conv2d(1, first.out_channels, 3, 1, 1, bias=False)
    return model


def stirred(model: nn.Module) -> nn.Module:
    """Move all weights and averages away from their start, by a fixed seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        for name, parameter in model.named_parameters():
            nn.init.normal_(parameter, float("norm" in name or "bn" in name), 0.2)
        for name, buffer in model.named_buffers():
            if "running" in name:
                nn.init.uniform_(buffer, 0.5, 1.5)
    return model


def build(image: tuple[int, int, int], classes: int, width: float = 0.5) -> Any:
    """A small ResNet that shrinks."""
    return elastic(resnet(), width=[width, 1], depth=[0.5, 1])
