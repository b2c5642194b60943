"""The three stages of MTCNN, which finds faces: a proposal, a refinement and an output network.

Zhang et al. 2016, "Joint Face Detection and Alignment using Multitask Cascaded Convolutional Networks", in
the variant whose weights `facenet-pytorch` 2.6.0 carries; layers are named as in its checkpoints. Each takes
pixels as floats, 0 to 255 and not rounded, since areas of a photograph are averaged into them; they are
scaled to -1 to 1 here, in the graph. What goes on between the stages is in `detect_faces`.
"""

import torch
from torch import nn

__all__ = ["ONet", "PNet", "RNet"]


def _scaled(image: torch.Tensor) -> torch.Tensor:
    """FP32 [batch, height, width, 3] of 0..255 -> planes [batch, 3, height, width] of -1..1."""
    return (image.permute(0, 3, 1, 2) - 127.5) / 128


class PNet(nn.Module):
    """Pixels FP32 [batch, height, width, 3] -> of each window of 12 x 12 pixels, 2 apart: is it a face?

    Returns scores FP32 [batch, rows, columns], probabilities, and offsets FP32 [batch, rows, columns, 4]: how
    far left, top, right and bottom of the face lie from those of the window, in parts of its side. There are
    ceil((height - 2) / 2) - 4 rows, and as many columns by the width; 11 pixels are the least.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 10, 3)
        self.prelu1 = nn.PReLU(10)
        self.pool1 = nn.MaxPool2d(2, 2, ceil_mode=True)
        self.conv2 = nn.Conv2d(10, 16, 3)
        self.prelu2 = nn.PReLU(16)
        self.conv3 = nn.Conv2d(16, 32, 3)
        self.prelu3 = nn.PReLU(32)
        self.conv4_1 = nn.Conv2d(32, 2, 1)
        self.conv4_2 = nn.Conv2d(32, 4, 1)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Shapes are the class's; `image` is RGB, 0 to 255."""
        features = self.pool1(self.prelu1(self.conv1(_scaled(image))))
        features = self.prelu2(self.conv2(features))
        features = self.prelu3(self.conv3(features))
        scores = self.conv4_1(features).softmax(1)[:, 1]
        return scores, self.conv4_2(features).permute(0, 2, 3, 1)


class RNet(nn.Module):
    """Pixels FP32 [batch, 24, 24, 3] of a candidate -> score FP32 [batch, 1], offsets FP32 [batch, 4].

    The score is the probability of a face; offsets are as PNet's, from the candidate's own sides.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 28, 3)
        self.prelu1 = nn.PReLU(28)
        self.pool1 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv2 = nn.Conv2d(28, 48, 3)
        self.prelu2 = nn.PReLU(48)
        self.pool2 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv3 = nn.Conv2d(48, 64, 2)
        self.prelu3 = nn.PReLU(64)
        self.dense4 = nn.Linear(576, 128)
        self.prelu4 = nn.PReLU(128)
        self.dense5_1 = nn.Linear(128, 2)
        self.dense5_2 = nn.Linear(128, 4)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Shapes are the class's; `image` is RGB, 0 to 255."""
        features = self.pool1(self.prelu1(self.conv1(_scaled(image))))
        features = self.pool2(self.prelu2(self.conv2(features)))
        features = self.prelu3(self.conv3(features))
        features = self.prelu4(self.dense4(_flat(features)))
        return self.dense5_1(features).softmax(1)[:, 1:], self.dense5_2(features)


class ONet(nn.Module):
    """Pixels FP32 [batch, 48, 48, 3] of a candidate -> score, offsets, and where its features are.

    Returns score FP32 [batch, 1] and offsets FP32 [batch, 4] as RNet, and landmarks FP32 [batch, 5, 2]: x
    and y in parts of the candidate's width and height, of the eye on the left, the one on the right, the
    nose, and the left and the right corner of the mouth.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3)
        self.prelu1 = nn.PReLU(32)
        self.pool1 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv2 = nn.Conv2d(32, 64, 3)
        self.prelu2 = nn.PReLU(64)
        self.pool2 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv3 = nn.Conv2d(64, 64, 3)
        self.prelu3 = nn.PReLU(64)
        self.pool3 = nn.MaxPool2d(2, 2, ceil_mode=True)
        self.conv4 = nn.Conv2d(64, 128, 2)
        self.prelu4 = nn.PReLU(128)
        self.dense5 = nn.Linear(1152, 256)
        self.prelu5 = nn.PReLU(256)
        self.dense6_1 = nn.Linear(256, 2)
        self.dense6_2 = nn.Linear(256, 4)
        self.dense6_3 = nn.Linear(256, 10)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Shapes are the class's; `image` is RGB, 0 to 255."""
        features = self.pool1(self.prelu1(self.conv1(_scaled(image))))
        features = self.pool2(self.prelu2(self.conv2(features)))
        features = self.pool3(self.prelu3(self.conv3(features)))
        features = self.prelu4(self.conv4(features))
        features = self.prelu5(self.dense5(_flat(features)))
        landmarks = self.dense6_3(features).unflatten(1, (2, 5)).transpose(1, 2)  # all x come before all y
        return self.dense6_1(features).softmax(1)[:, 1:], self.dense6_2(features), landmarks


def _flat(features: torch.Tensor) -> torch.Tensor:
    """[batch, channels, rows, columns] -> [batch, columns x rows x channels], as the weights were trained."""
    return features.permute(0, 3, 2, 1).flatten(1)
