"""``python -m spact_lib VERB`` is the same as ``spact VERB``."""

from spact_lib.cli import main

if __name__ == "__main__":
    main()
