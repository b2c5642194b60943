"""The reference that served answers are held against: PyTorch, with the transform of its own tradition."""

import functools

import numpy as np
import torch
from PIL import Image

from export.catalogue import CATALOGUE
from export.sources.weights import choose_weights, filled_network


def reference_pixels(image: Image.Image) -> np.ndarray:
    """torchvision's Resize(256, bicubic) and CenterCrop(224) step by step: UINT8 [224, 224, 3]."""
    image = image.convert("RGB")
    width, height = image.size
    short = min(width, height)
    image = image.resize((int(256 * width / short), int(256 * height / short)), Image.Resampling.BICUBIC)
    left, top = round((image.width - 224) / 2), round((image.height - 224) / 2)
    return np.asarray(image.crop((left, top, left + 224, top + 224)))


@functools.cache
def efficientnet_lite0() -> torch.nn.Module:
    """The network as PyTorch runs it, without anything of ours around it."""
    spec = CATALOGUE["efficientnet_lite0"]
    return filled_network(spec, choose_weights(spec)).eval()


def reference_logits(image: Image.Image) -> np.ndarray:
    """EfficientNet-Lite0 on one photograph: FP32 [1000]. It was trained on (pixel - 127) / 128."""
    pixels = torch.from_numpy(reference_pixels(image).astype(np.float32))
    with torch.inference_mode():
        return efficientnet_lite0()((pixels.permute(2, 0, 1)[None] - 127) / 128)[0].numpy()
