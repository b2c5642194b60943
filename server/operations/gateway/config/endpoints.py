"""What a tritonserver can be asked, and by whom: paths of HTTP and methods of gRPC.

A path that is none of these exactly is not found. So nothing has to be normalised: neither `..`, nor `//`,
nor `%2e`, nor another case gets past a rule.
"""

from dataclasses import dataclass

__all__ = [
    "ADMIN_ENDPOINTS",
    "GRPC_ENDPOINTS",
    "HTTP_ENDPOINTS",
    "INFERENCE",
    "MODEL_NAME",
    "OF_MODEL",
    "HttpEndpoint",
]

MODEL_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
MODEL = rf"/v2/models/{MODEL_NAME}(/versions/[0-9]{{1,19}})?"
REGION = r"(/region/[A-Za-z0-9_.-]{1,128})?"
STREAM, INFER, GENERATE = "stream", "infer", "generate"
INFERENCE = (INFER, GENERATE)  # what a body asks of a model, and rules look into
OF_MODEL = ("metadata", "ready", "config")  # whose messages begin with a model's name and its version
ADMIN_ENDPOINTS = ("statistics", "index", "load", "shared-memory", "trace", "logging")


@dataclass(frozen=True)
class HttpEndpoint:
    """A name for the log, the methods that are allowed, and the path, a regular expression for all of it."""

    name: str
    methods: str
    path: str


HTTP_ENDPOINTS = (  # where two match, the later counts
    HttpEndpoint("server", "GET", r"/v2/?"),
    HttpEndpoint("metadata", "GET", MODEL),
    HttpEndpoint("ready", "GET", rf"{MODEL}/ready"),
    HttpEndpoint("config", "GET", rf"{MODEL}/config"),
    HttpEndpoint(INFER, "POST", rf"{MODEL}/infer"),
    HttpEndpoint(GENERATE, "POST", rf"{MODEL}/generate(_stream)?"),
    HttpEndpoint("statistics", "GET", rf"(/v2/models|{MODEL})/stats"),
    HttpEndpoint("index", "POST", r"/v2/repository/index"),
    HttpEndpoint("load", "POST", rf"/v2/repository/models/{MODEL_NAME}/(un)?load"),
    HttpEndpoint(
        "shared-memory", "GET POST", rf"/v2/(system|cuda)sharedmemory{REGION}/(status|(un)?register)"
    ),
    HttpEndpoint("trace", "GET POST", rf"/v2(/models/{MODEL_NAME})?/trace/setting"),
    HttpEndpoint("logging", "GET POST", r"/v2/logging"),
)
SERVICE = "/inference.GRPCInferenceService/"
GRPC_ENDPOINTS = {
    "/grpc.health.v1.Health/Check": "server",
    **{
        f"{SERVICE}{method}": endpoint
        for endpoint, methods in {
            "server": "ServerLive ServerReady ServerMetadata",
            "metadata": "ModelMetadata",
            "ready": "ModelReady",
            "config": "ModelConfig",
            INFER: "ModelInfer",
            STREAM: "ModelStreamInfer",
            "statistics": "ModelStatistics",
            "index": "RepositoryIndex",
            "load": "RepositoryModelLoad RepositoryModelUnload",
            "shared-memory": "SystemSharedMemoryStatus SystemSharedMemoryRegister "
            "SystemSharedMemoryUnregister "
            "CudaSharedMemoryStatus CudaSharedMemoryRegister CudaSharedMemoryUnregister",
            "trace": "TraceSetting",
            "logging": "LogSettings",
        }.items()
        for method in methods.split()
    },
}
