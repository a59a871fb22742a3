"""The one error of a server that will not start."""


class StartupRefused(Exception):
    """The server refuses to start; the message says what the operator has to do.

    Command lines print the message without a traceback and exit with code 2.
    """
