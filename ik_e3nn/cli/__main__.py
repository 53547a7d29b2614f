"""``python -m ik_e3nn.cli`` is ``ik-e3nn``."""

import sys

from ik_e3nn.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
