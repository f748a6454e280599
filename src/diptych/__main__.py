"""`python -m diptych`, and `torchrun ... -m diptych`: the command line."""

from diptych.cli.main import main

if __name__ == "__main__":
    main()
