import sys

from export.commands import run

sys.exit(run(["lint", *sys.argv[1:]]))
