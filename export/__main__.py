import sys

from export.commands import run

sys.exit(run(sys.argv[1:]))
