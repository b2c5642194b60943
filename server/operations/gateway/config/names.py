"""What the parts of the configuration call one another by: backends, and the files beside it."""

__all__ = [
    "AUTHORITY",
    "BACKENDS",
    "ELSEWHERE_MAP",
    "ENDED_S",
    "ERRORS_FOLDER",
    "LUA_FOLDER",
    "METHODS_MAP",
    "OUTPUTS_MAP",
    "OWNERS_MAP",
    "ROLLOUT_MAP",
    "ROLLOUT_SOCKET",
    "SEQUENCES_MAP",
    "SEQUENCES_TABLE",
    "SEQUENCE_LIVES_S",
    "elsewhere_map",
]

AUTHORITY = "triton_http"  # its servers are checked; those of the others follow them
BACKENDS = (AUTHORITY, "triton_grpc", "triton_stream")
ERRORS_FOLDER, LUA_FOLDER = "errors", "lua"
METHODS_MAP, SEQUENCES_MAP, OUTPUTS_MAP = "methods.map", "sequences.map", "outputs.map"
ELSEWHERE_MAP = "elsewhere.map"
OWNERS_MAP = "owners.map"  # of sequences; HAProxy writes it, and the file stays empty
SEQUENCES_TABLE = "sequences"  # which server has each
SEQUENCE_LIVES_S, ENDED_S = 3600, 5  # in that table, after its last request; as in owners.lua
ROLLOUT_MAP, ROLLOUT_SOCKET = "rollout.map", "rollout.sock"


def elsewhere_map(backend: str, *, asks_launchers: bool) -> str:
    """Which servers have a model that others lack; behind a name, slots of two backends need not be one's."""
    return f"elsewhere-{backend}.map" if asks_launchers else ELSEWHERE_MAP
