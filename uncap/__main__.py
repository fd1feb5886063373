"""`python -m uncap` is the command `uncap`."""

from uncap.evaluation.cli import main

if __name__ == "__main__":
    main()
