"""Errors that a user can correct. The command line prints one line and ends with exit code 2."""


class UserError(Exception):
    """The message names the rule and the value; the command line prints it as it is."""
