"""What a launcher lets commands do with it while it runs: with a gateway, or without."""

from contextlib import AbstractContextManager

from ..environment.holds import Holds
from ..running.process import TritonServer
from ..watching.supervisor import Supervisor
from .control.conversation import CONTROL_SOCKET, Control, make_private, run_folder
from .control.verbs import Launcher
from .gateway.control import answers
from .gateway.fleet import Fleet
from .rollout.cli import Rollouts

__all__ = ["reaching_fleet", "reaching_server"]


def reaching_server(
    server: TritonServer, supervisor: Supervisor, holds: Holds
) -> AbstractContextManager[object]:
    """Of a launcher without a gateway, by its HTTP port. Raises `StartError`."""
    port = int(server.http_url.rpartition(":")[2])
    launcher = Launcher(port, holds, supervisor, lambda: {"server": server})
    folder = run_folder(port)
    make_private(folder)
    return Control(folder / CONTROL_SOCKET, lambda request, client: launcher.answer(request, client, {}))


def reaching_fleet(fleet: Fleet, holds: Holds) -> AbstractContextManager[object]:
    """Of one with a gateway, by its port."""

    def servers() -> dict[str, TritonServer]:
        return {slot: each.server for slot, each in list(fleet.members.items()) if each.state == "ready"}

    def config(model: str) -> str:
        with fleet.candidate(model) as member:  # a new server reads what the repository has
            return member.server.run.api.config(model)

    rollouts = Rollouts(fleet, holds)
    launcher = Launcher(
        fleet.gateway.settings.port,
        holds,
        fleet,
        servers,
        changing=fleet.changing,
        aside=fleet.aside,
        describe=lambda: {**fleet.describe(), "rollout": rollouts.describe()},
        busy=rollouts.busy,
        changed=fleet.gateway.reload_maps,
        config=config,
    )
    others = {**answers(fleet), "rollout": rollouts.answer}
    socket = fleet.gateway.settings.folder / CONTROL_SOCKET
    return Control(socket, lambda request, client: launcher.answer(request, client, others))
