"""Addresses of IPv4 and IPv6: how they are written before a port, and on which a server can listen."""

import socket

import pytest

from server.environment.ports import choose_ports, claimed, held, is_loopback, listen, url
from server.errors import PortInUseError


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1", "127.0.0.1:8000"),
        ("0.0.0.0", "127.0.0.1:8000"),
        ("localhost", "localhost:8000"),
        ("::1", "[::1]:8000"),
        ("::", "[::1]:8000"),
        ("0:0:0:0:0:0:0:0", "[::1]:8000"),
        ("fd00::2", "[fd00::2]:8000"),
    ],
)
def test_how_an_address_is_reached_from_here(address, expected):
    assert url(address, 8000) == expected


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        *(("127.1.2.3", True), ("localhost", True), ("::1", True), ("0:0:0:0:0:0:0:1", True)),
        *(("::ffff:127.0.0.1", True), ("::ffff:192.0.2.1", False), ("::ffff:0.0.0.0", False)),
        *(("0.0.0.0", False), ("::", False), ("fd00::1", False), ("127.example.org", False)),
    ],
)
def test_loopback_is_known_however_it_is_written(address, loopback):
    assert is_loopback(address) == loopback


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("::ffff:127.0.0.1", "write it as 127.0.0.1"),
        ("fe80::1", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("2001:db8::1", "not an address of this machine"),
    ],
)
def test_what_tritonserver_cannot_listen_on_is_told(address, said):
    with pytest.raises(PortInUseError, match=said):
        choose_ports(address, {"http": 0})


@pytest.mark.parametrize("address", ["triton.example.org", "", "127.0.0.1:8000"])
def test_a_name_is_refused_at_once(address):
    with pytest.raises(PortInUseError, match="it is no IP address; see --address"):
        choose_ports(address, {"http": 0})


def test_a_port_that_is_held_is_given_to_nobody_and_can_be_listened_on():
    port = choose_ports("127.0.0.1", {"gateway": 0})["gateway"]
    with held("127.0.0.1", port):
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))  # as Linux looks for any free one
        with (
            listen("127.0.0.1", port),
            pytest.raises(PortInUseError, match=f"127.0.0.1:{port}"),
            held("127.0.0.1", port),
        ):
            pass
        with listen("127.0.0.1", port):  # again, by the next process
            pass


def test_a_port_is_claimed_once_though_nobody_listens_yet():
    port = choose_ports("127.0.0.1", {"gateway": 0})["gateway"]
    with (
        claimed("127.0.0.1", port),
        pytest.raises(PortInUseError, match=f"another launcher has 127.0.0.1:{port}"),
        claimed("127.0.0.1", port),
    ):
        pass
    with claimed("127.0.0.1", port):
        pass
