"""The two ways in which a run ends with one clear message and no traceback."""


class InputError(Exception):
    """What the user wrote cannot be run: exit code 2. The message names the key, the value and the fix."""


class RunError(Exception):
    """The run failed and its files are safe: exit code 1. The message says what happened and how to go on."""


class Interrupted(Exception):
    """Ctrl-C was heeded and the state is saved: exit code 130."""
