"""What is wrong with a file."""


class FileError(ValueError):
    """A file that is damaged, foreign, too large, or not what the model or the call asks for. Nothing was changed.

    What the system refuses (no such file, no permission, a full disk) is an ``OSError``, as everywhere in Python.
    """
