"""What `docker compose config` would make of docker-compose.yml: interpolation, profiles, dependencies.

Rules: docs.docker.com/reference/compose-file, pages interpolation, profiles and services.
"""

import re
from pathlib import Path

import yaml

VARIABLE = re.compile(
    r"\$(?:(?P<escaped>\$)|(?P<plain>[A-Za-z_]\w*)|\{(?P<name>[A-Za-z_]\w*)(?:(?P<rule>:?[-?+])(?P<word>[^{}]*))?\}"
    r"|(?P<wrong>))"
)


class ComposeError(ValueError):
    """docker compose would refuse this."""


def load(file: Path, environment: dict[str, str]) -> dict:
    """The file with its YAML anchors merged and every variable replaced; `environment` wins over `.env`."""
    variables = {**dotenv(file.parent / ".env"), **environment}
    return _interpolated(yaml.safe_load(file.read_text()), variables)


def dotenv(file: Path) -> dict[str, str]:
    lines = file.read_text().splitlines() if file.is_file() else []
    pairs = (line.split("=", 1) for line in lines if line.strip() and not line.startswith("#"))
    return {name.strip(): value.strip() for name, value in pairs}


def _interpolated(node, variables):
    if isinstance(node, dict):
        return {key: _interpolated(value, variables) for key, value in node.items()}
    if isinstance(node, list):
        return [_interpolated(value, variables) for value in node]
    return VARIABLE.sub(lambda match: _value(match, variables), node) if isinstance(node, str) else node


def _value(match, variables):
    if match["escaped"]:
        return "$"
    name, rule, word = match["plain"] or match["name"], match["rule"] or "", match["word"]
    if name is None:
        raise ComposeError(f"invalid interpolation in {match.string!r}")
    value = variables.get(name)
    given = bool(value) if rule.startswith(":") else value is not None
    if rule.endswith("+"):
        return word if given else ""
    if given:
        return value
    if rule.endswith("?"):
        raise ComposeError(f"required variable {name} is missing a value: {word}")
    return word or ""


def active_services(model: dict, profiles: list[str]) -> dict[str, dict]:
    """The services of these profiles, without optional dependencies on others.

    Raises `ComposeError` for a service that needs one whose profile is off.
    """
    services = {
        name: service
        for name, service in model["services"].items()
        if not service.get("profiles") or set(profiles) & set(service["profiles"])
    }
    for name, service in services.items():
        needs = service.get("depends_on", {})
        for other, how in needs.items():
            if other not in services and how.get("required", True):
                raise ComposeError(f"service {name} depends on {other}, which is not active")
        if needs:
            kept = {other: how for other, how in needs.items() if other in services}
            services[name] = {**service, "depends_on": kept}
    return services


def seconds(duration: str) -> float:
    """ "1m30s" to 90."""
    units = {"h": 3600, "m": 60, "s": 1, "ms": 0.001}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"([\d.]+)(ms|[hms])", duration))


def published_ports(service: dict) -> list[tuple[str, str, str]]:
    """(address, host port, container port) of each entry; address "" is every interface."""
    ports = []
    for entry in service.get("ports", []):
        address, host, inside = ("", *entry.split(":"))[-3:]
        ports.append((address, host, inside))
    return ports
