"""What a policy makes of pictures: stable-baselines3's small convolutional network."""

from __future__ import annotations

import math

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.torch_layers import NatureCNN
from torch import nn

from uncap.envs.sensors import PICTURE_SHAPE

FEATURES = 256


def flat_pictures() -> gym.spaces.Box:
    """The space of pictures as a policy has it: flat, which stable-baselines3 takes for no picture.

    It would else move the channels of pictures in trainings, and not where a policy acts.
    """
    return gym.spaces.Box(0, 255, (math.prod(PICTURE_SHAPE),), np.uint8)


class PictureEncoder(nn.Module):
    """Features of two pictures, by the network of Mnih et al. (2015).

    Attributes:
        size: features.
    """

    def __init__(self):
        super().__init__()
        height, width, channels = PICTURE_SHAPE
        space = gym.spaces.Box(0.0, 1.0, (channels, height, width), np.float32)
        self.network = NatureCNN(space, FEATURES, normalized_image=True)
        self.size = FEATURES

    def forward(self, rgb: torch.Tensor) -> torch.Tensor:
        """Features (n, size) of pictures (n, height, width, channels) uint8, or flat ones."""
        pictures = rgb.reshape(-1, *PICTURE_SHAPE)
        return self.network(pictures.permute(0, 3, 1, 2).float() / 255)
