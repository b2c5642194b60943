"""A `bash` for tritonserver that takes the names of models as names.

Triton's Python backend (24.10, src/stub_launcher.cc) starts each process of a model by `bash -c`, which it
finds on PATH, and writes the model's path and the name of the instance into the command as they are: a blank
in one breaks the start, and `$(...)` runs. This `bash` quotes the two and goes on with the real one. First it
writes down, under its process id, which the stub keeps, what the process is for: one that has died is a
zombie, and a zombie has no command line. It also has malloc keep one heap for all threads, the only kind that
a model can give back to the system whole (export/model_code/serving/idle_memory.py).
"""

import shlex
import shutil
from pathlib import Path

__all__ = ["install", "started_stub"]

# The command: " exec STUB MODEL SEGMENT SIZE SIZE PID LIBRARY HANDLE INSTANCE FOLDER". The name of SEGMENT
# begins with what this server alone knows, so no other can be taken for it. $BASH is the real one.
SCRIPT = """\
stub=/triton_python_backend_stub
if [[ $# == 2 && $1 == -c && $2 == *"$stub "*" $segments"* ]]; then
  before=${2%%"$stub "*}$stub
  model=${2#*"$stub "}
  model=${model%%" $segments"*}
  rest=${2#*" $segments"}
  read -r -d "" segment size growth parent library handle _ <<< "$rest"
  instance=${rest#"$segment $size $growth $parent $library $handle "}
  folder=${instance##* }
  instance=${instance% *}
  if [[ $before == " exec "* ]]; then printf -v before " exec %q" "${before#" exec "}"; fi
  printf -v command "%s %q %s%s %s %s %s %s %s %q %s" "$before" "$model" \
    "$segments" "$segment" "$size" "$growth" "$parent" "$library" "$handle" "$instance" "$folder"
  printf "%s\\0%s" "$model" "$instance" > "${0%/*}/$$"
  set -- -c "$command"
  export MALLOC_ARENA_MAX=${MALLOC_ARENA_MAX-1}
fi
exec "$BASH" "$@"
"""


def install(folder: Path, segments: str) -> Path | None:
    """Write it to `folder`, which then belongs at the front of tritonserver's PATH.

    segments: what the names of this server's shared memory segments begin with.
    """
    bash = shutil.which("bash")
    if not bash:
        return None  # then the Python backend cannot start anything either, and says so
    folder.mkdir()
    script = folder / "bash"
    script.write_text(f"#!{bash}\nsegments={shlex.quote(segments)}\n{SCRIPT}")
    script.chmod(0o755)
    return folder


def started_stub(folder: Path, pid: int) -> tuple[Path, str] | None:
    """The model's file and the instance that process `pid` is for; None if it did not start here."""
    try:
        model, instance = (folder / str(pid)).read_bytes().decode(errors="replace").split("\0")
    except (OSError, ValueError):
        return None
    return Path(model), instance
