"""A network of your own, on its way to Triton (docs/how-to/export.md walks through it).

python -m export examples/my_net.py:spec --checkpoint my_net.pth
"""

import torch
from torch import nn

from export import ModelSpec, PixelClassifier, Tensor

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class MyNet(nn.Module):
    """FP32 [batch, 3, 32, 32], about -1 to 1 -> logits FP32 [batch, 10]."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 16, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(32, len(CLASSES))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = self.pool(self.features(x))
        return self.classifier(pooled.flatten(1))  # not reshape(8, -1): the batch is dynamic


spec = ModelSpec(
    name="my_net",
    network=MyNet,
    served=PixelClassifier(mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5)),
    inputs=(Tensor("image", "uint8", (32, 32, 3)),),
    outputs=(Tensor("probabilities", "float32", (10,), labels=lambda: CLASSES),),
    max_batch_size=16,
    tolerance=1e-5,
)
