"""One page for the tests of a module."""

import pytest

from tests.page_process import Page


@pytest.fixture(scope="module")
def page(server):
    with Page(server.grpc_url) as running:
        yield running
