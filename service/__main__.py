"""`python -m service`: the same as `brainstem`."""

from service.cli import main

if __name__ == "__main__":
    main(prog_name="brainstem")
