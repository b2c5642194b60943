"""What a launcher with a gateway does when it is asked: see `control.conversation`."""

from collections.abc import Callable
from typing import Any

from ...errors import StartError
from ..control.conversation import Client
from .fleet import Fleet

__all__ = ["answers"]


def answers(fleet: Fleet) -> dict[str, Callable[[dict[str, Any], Client], dict[str, Any]]]:
    """By what is to be done."""

    def scale(request: dict[str, Any], client: Client) -> dict[str, Any]:
        match request:
            case {"servers": int(servers)}:
                fleet.scale(servers, client.left)
                return fleet.describe()
        raise StartError("say to how many servers")

    def restart(request: dict[str, Any], client: Client) -> dict[str, Any]:
        match request:
            case {"slots": [*slots]}:
                fleet.restart(map(str, slots), client.left)
                return fleet.describe()
        raise StartError("say which servers")

    return {"gateway": lambda *_: fleet.describe(), "scale": scale, "restart": restart}
