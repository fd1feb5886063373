"""The main job of a checkout, `python train.py`; the same as the command `uncap`."""

from uncap.evaluation.cli import main

if __name__ == "__main__":
    main()
