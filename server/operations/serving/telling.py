"""What the launcher says: what it serves, what it cannot, and how it ended."""

import contextlib
import sys
from pathlib import Path

from ...environment.place import advice_to_fill
from ...environment.plans import plan_faults
from ...environment.repository import servable_models, unexported_models
from ...errors import ServerError, shown
from ...running.process import TritonServer
from ...watching.gateway import TFServingGateway
from ...watching.status_page import StatusPage
from ..doctor.release import facts_here

__all__ = ["how_it_stopped", "models_served", "say_what_is_served", "tell_of_plans"]


def say_what_is_served(
    server: TritonServer, page: StatusPage, gateway: TFServingGateway | None = None
) -> None:
    """Print each model with its state, why it failed or what it lacks, and the addresses."""
    lines = [
        *models_served(server),
        f"  HTTP    http://{server.http_url}",
        f"  gRPC    {server.grpc_url}",
        f"  metrics {server.metrics_url}",
        f"  status  {page.url}/ready and /metrics",
        *([f"  TF Serving gRPC {gateway.grpc_url}, REST {gateway.rest_url}/v1/models"] if gateway else []),
        "Ctrl-C stops it."
        if server.ready()
        else "Not all models are ready: /ready of the status port says no.",
    ]
    print("\n".join(lines), flush=True)


def models_served(server: TritonServer) -> list[str]:
    """Lines: each model with its state, why it failed or what it lacks."""
    lines = [f"Triton ({server.installation.kind}) serves {server.model_repository}"]
    if signed := [str(path) for path in server.verify_keys]:
        lines.append(f"  as signed by {' or '.join(signed)}")
    lines += [
        f"  held    {shown(name)} at version {', '.join(map(str, hold.versions))}, not {hold.against}: "
        f"{shown(hold.why)}"
        for name, hold in server.holds.items()
    ]
    unexported = unexported_models(server.served_repository)
    for model in (model for model in server.models() if model.ready or model.name not in unexported):
        if model.ready:
            lines.append(f"  ready   {shown(model.name)} version {model.version}")
        elif model.reason:
            reason = "\n".join(f"          {line}" for line in model.reason.split("\n") if line.strip())
            lines.append(
                f"  FAILED  {' '.join(filter(None, (shown(model.name), model.version)))}: {reason.lstrip()}"
            )
        else:
            lines.append(f"  not loaded {shown(model.name)}")
    lines += [f"  missing {name}: nothing to load; {advice_to_fill(name)}" for name in map(shown, unexported)]
    return lines


def tell_of_plans(repository: Path) -> None:
    """Print a line for each TensorRT plan that this release would not load, as tritonserver fails on it."""
    facts = facts_here()
    release, tensorrt = (str(facts[name]["value"]) for name in ("release", "tensorrt"))
    with contextlib.suppress(ServerError):  # told when it is started
        for line in plan_faults(repository, servable_models(repository), release, tensorrt):
            print(f"server: {line}", file=sys.stderr)


def how_it_stopped(server: TritonServer) -> int:
    """Exit status after a stop that was asked for; what tritonserver ended with is said where it is not 0."""
    status = server.stop()
    if not status or server.run.gave_up:
        return 0
    print(
        f"server: tritonserver ended with status {status} while it stopped: requests in flight may be lost; "
        "its log above says more",
        file=sys.stderr,
    )
    return status
