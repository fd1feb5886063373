"""What `test_files` has other processes do; it imports little, so that they start soon."""

from uncap.evaluation import runs


def create(arguments):
    """Make a run folder, of a default name or not; the folder, or None where another did."""
    path, number, default = arguments
    try:
        made = runs.create_next(path, {"seed": number}) if default else path
        if not default:
            runs.create(path, {"seed": number})
        return made
    except runs.RunError:
        return None
