"""`python -m nbserve`: the `nbserve` command where its script is not on the path."""

from nbserve.cli import main

if __name__ == "__main__":
    main()
