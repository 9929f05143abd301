"""`python -m llm_routing.sandbox`: the sandbox without Django, from the command line."""

import sys

from .command import main

if __name__ == "__main__":
    sys.exit(main())
