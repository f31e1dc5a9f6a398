"""What a user can mend: one line that names the file, the field and the fix."""


class UserError(ValueError):
    """Bad input. The commands print its text as one line `error: …` and exit with status 2."""
