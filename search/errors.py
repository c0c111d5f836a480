"""What a user did that can't be done: told in one line, exit code 2."""


class UserError(Exception):
    """The message names the rule and the value; the command line prints it as it is."""
