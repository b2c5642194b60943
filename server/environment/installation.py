"""Find a tritonserver and what it needs: the container's own, else the one in the nvidia-pytriton wheel."""

import importlib.metadata
import importlib.util
import os
import shutil
import sys
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import InstallationError
from .place import INSTALL

__all__ = ["Installation", "find_installation"]

CONTAINER_BINARY = Path("/opt/tritonserver/bin/tritonserver")
PIP_PACKAGE = "nvidia-pytriton"
OUR_BACKENDS = Path(__file__).resolve().parent.parent / "backends"


@dataclass(frozen=True)
class Installation:
    """A tritonserver that can be started.

    kind: "container" (NVIDIA's image, with its own C++ backends) or "pip".
    backends: what to copy into the folder that becomes `--backend-directory`, from name there to source;
        empty where tritonserver has backends of its own.
    environment: variables to add to those of the caller.
    arguments: command line arguments that this installation always needs.
    """

    kind: str
    binary: Path
    backends: dict[str, Path] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()


def find_installation() -> Installation:
    """The container's tritonserver where there is one, else the pip wheel's.

    Raises `InstallationError` that names the missing file or the unfit package.
    """
    on_path = shutil.which("tritonserver")
    for binary in (Path(on_path) if on_path else None, CONTAINER_BINARY):
        if binary and binary.is_file():
            return Installation("container", binary, environment=quiet_onnx_runtime())
    return _pip_installation()


def quiet_onnx_runtime() -> dict[str, str]:
    """Environment in which ONNX Runtime, 1.29 and later, sends nothing of the models to its maker, unless the
    caller asked it to. Source: ONNX Runtime, Privacy.md."""
    name = "ORT_DISABLE_TELEMETRY"
    return {name: os.environ.get(name, "1")}


def _pip_installation() -> Installation:
    _check_packages()
    spec = importlib.util.find_spec("pytriton")  # found, not imported: only its files are used
    if spec is None or not spec.submodule_search_locations:
        raise InstallationError(
            "there is no tritonserver: neither on PATH, nor in "
            f"{CONTAINER_BINARY.parent}, nor the Python package {PIP_PACKAGE}; run `{INSTALL}`"
        )
    package = Path(next(iter(spec.submodule_search_locations)))
    root = package / "tritonserver"
    libraries = package.parent / "nvidia_pytriton.libs"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    python_backend, stubs = root / "backends" / "python", root / "python_backend_stubs"
    backends = {
        "python/libtriton_python.so": python_backend / "libtriton_python.so",
        "python/triton_python_backend_utils.py": python_backend / "triton_python_backend_utils.py",
        "python/triton_python_backend_stub": stubs / version / "triton_python_backend_stub",
    }
    binary = root / "bin" / "tritonserver"
    for path in (binary, libraries, *backends.values()):
        if not path.exists():
            raise InstallationError(
                f"{PIP_PACKAGE} {_version(PIP_PACKAGE)} has no {path}; it supports Linux x86-64 and "
                f"Python 3.10 to 3.12 here, this is Python {version}; run `{INSTALL}`"
            )
    backends.update({path.name: path for path in OUR_BACKENDS.iterdir() if (path / "model.py").is_file()})
    library_path = [str(libraries), str(_libpython_folder()), os.environ.get("LD_LIBRARY_PATH", "")]
    site_packages = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    environment = {
        **quiet_onnx_runtime(),
        "LD_LIBRARY_PATH": os.pathsep.join(filter(None, library_path)),
        # The stubs embed Python. They take their standard library from the first python3 on PATH, and
        # ours must be found without an activated virtual environment.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        "PYTHONPATH": os.pathsep.join(
            filter(None, [*sorted(site_packages), os.environ.get("PYTHONPATH", "")])
        ),
    }
    return Installation("pip", binary, backends, environment, (f"--cache-directory={root / 'caches'}",))


def _check_packages() -> None:
    numpy = _version("numpy")
    if numpy is None or int(numpy.split(".")[0]) >= 2:
        raise InstallationError(
            f"numpy is {numpy or 'missing'}, but pip Triton's Python backend needs numpy 1.26: with numpy 2 "
            f"every output arrives as zero bytes; run `{INSTALL}` or `pip install 'numpy<2'`"
        )
    if not (_version("onnxruntime") or _version("onnxruntime-gpu")):
        raise InstallationError(f"neither onnxruntime nor onnxruntime-gpu is installed; run `{INSTALL}`")


def _libpython_folder() -> Path:
    name = sysconfig.get_config_var("INSTSONAME") or ""
    if not name.startswith("libpython") or ".so" not in name:  # a static build names libpython3.x.a
        name = f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0"
    multiarch = sysconfig.get_config_var("MULTIARCH") or "x86_64-linux-gnu"
    folders = [
        Path(sysconfig.get_config_var("LIBDIR") or "/usr/lib"),
        Path(sys.base_prefix) / "lib",
        Path("/usr/lib") / multiarch,
        Path("/usr/lib64"),
    ]
    for folder in folders:
        if (folder / name).exists():
            return folder
    raise InstallationError(
        f"{name} is missing (looked in {', '.join(map(str, dict.fromkeys(folders)))}); pip Triton embeds "
        f"this Python and needs its shared library: on Debian and Ubuntu `apt-get install "
        f"libpython{sys.version_info.major}.{sys.version_info.minor}`, with pyenv build Python with "
        "`--enable-shared`, or use another Python: `make PYTHON=python3.x`"
    )


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
