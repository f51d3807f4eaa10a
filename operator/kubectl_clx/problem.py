"""The one error of this program: a sentence for the person at the terminal, with what now."""


class Problem(Exception):
    """It was not done, and why; the end of the program."""
