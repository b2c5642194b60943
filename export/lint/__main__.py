import sys

from export.lint.cli import main

sys.exit(main())
