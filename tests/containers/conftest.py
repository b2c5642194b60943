"""Containers are run where a Docker engine answers that has the images; elsewhere the reason is told."""

import os
import socket

import pytest

from tests.containers.stack import PORTS, Stack, has_image, image_of, why_no_engine


def pytest_collection_modifyitems(items):
    here = os.path.dirname(__file__)
    for item in items:
        if str(item.path).startswith(here):
            item.add_marker("containers")


@pytest.fixture(scope="session", autouse=True)
def engine():
    if why := why_no_engine():
        pytest.skip(f"containers need Docker with Compose: {why}")
    needs_image("triton-cpu")
    with Stack("triton-vision-build", free_ports(len(PORTS))) as stack:
        stack.compose("build", "triton-cpu")


def needs_image(service):
    if not has_image(image := image_of(service)):
        pytest.skip(f"the image {image} is not here; `docker pull {image}`")


def free_ports(count):
    with_ports = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in with_ports]
    for server in with_ports:
        server.close()
    return ports


@pytest.fixture(scope="session")
def new_stack():
    """Makes stacks; those that one enters are gone at its exit."""

    def new(name, **variables):
        return Stack(f"triton-vision-{name}-{os.getpid()}", free_ports(len(PORTS)), **variables)

    return new


@pytest.fixture(scope="module")
def stack(new_stack):
    """The service on the full repository, healthy."""
    with new_stack("test") as stack:
        stack.up("triton-cpu")
        yield stack
