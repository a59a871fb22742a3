"""The one error of a server that will not start."""


class StartupRefused(Exception):
    """The server refuses to start; the message tells the operator what to do next.

    Command lines print the message without a traceback and exit with code 2.
    """
