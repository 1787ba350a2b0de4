"""`python -m nas_compress`: the command line, as `nas-compress`."""

from nas_compress.cli import main

if __name__ == "__main__":
    main()
