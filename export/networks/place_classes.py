"""The ImageNet classes that are places, and the 365 categories of the Places365 data set.

A class of ImageNet counts as a place if one can be in it, on it or before it, and a picture is of it as a
whole: landforms, buildings, rooms, shops, and works that one walks on or moors at. Left out are parts of
buildings (dome, bell cote, vault, thatch), what stands in places (fountain, obelisk, fence, altar, carousel),
and vehicles. There are no streets, forests, kitchens or offices among ImageNet's classes, and so none here.
"""

from pathlib import Path

__all__ = ["OTHER", "PLACES", "place_indices", "places365_labels"]

PLACES: dict[str, tuple[int, ...]] = {  # by kind, as numbers of ImageNet's 1,000 classes
    # alp, cliff, coral reef, geyser, lakeside, promontory, sandbar, seashore, valley, volcano
    "landforms": (970, 972, 973, 974, 975, 976, 977, 978, 979, 980),
    # barn, beacon, boathouse, castle, church, cinema, cliff dwelling, greenhouse, lumbermill, mobile home,
    # monastery, mosque, palace, planetarium, prison, stupa, water tower, yurt
    "buildings": (425, 437, 449, 483, 497, 498, 500, 580, 634, 660, 663, 668, 698, 727, 743, 832, 900, 915),
    # home theater, library, patio, restaurant, stage
    "rooms": (598, 624, 706, 762, 819),
    # bakery, barbershop, bookshop, butcher shop, confectionery, grocery store, shoe shop, tobacco shop,
    # toyshop
    "shops": (415, 424, 454, 467, 509, 582, 788, 860, 865),
    # breakwater, dam, dock, drilling platform, pier, steel arch bridge, suspension bridge, viaduct
    "works": (460, 525, 536, 540, 718, 821, 839, 888),
}
OTHER = "other"  # the label of all the rest

PLACES365 = Path(__file__).with_name("places365.txt")


def place_indices() -> tuple[int, ...]:
    """All of `PLACES`, in ImageNet's order."""
    return tuple(sorted(index for kind in PLACES.values() for index in kind))


def places365_labels() -> list[str]:
    """In the order of the data set's own list: "airfield", "apartment building, outdoor"."""
    names = PLACES365.read_text(encoding="utf-8").splitlines()
    return [name.replace("/", ", ").replace("_", " ") for name in names]
