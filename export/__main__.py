import sys

if sys.argv[1:2] == ["lint"]:  # needs neither torch nor the catalogue
    from export.lint.cli import main

    sys.exit(main(sys.argv[2:]))

if sys.argv[1:2] == ["use"]:  # nor does this
    from export.composition_cli import main

    sys.exit(main(sys.argv[2:]))

from export.cli import main

sys.exit(main())
