"""`python -m acceptor` is the command `taskmaster`."""

from acceptor.cli import main

if __name__ == "__main__":
    main()
