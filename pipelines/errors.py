"""The errors that Packshot raises, as one tree.

    PackshotError
    ├── ConfigError           what the user asked for cannot be: a recipe, a catalogue, a placement  (exit 2)
    ├── InfrastructureError   weights, storage or a device do not answer; always stops the run       (exit 2)
    │   └── StorageError      the bucket, the folder, the credentials
    ├── Missing               a file is not there
    ├── Changed               a file is not the version that was planned
    ├── TooManyBytes          a file is larger than allowed
    ├── NeedsAPerson          the run would not do what was meant; nothing is published               (exit 1)
    │   ├── TooManyUnexpected more rows failed unexpectedly than `max_unexpected` allows
    │   └── TooManyVanished   more items left the catalogue than `--allow-vanished` allows
    └── ImageError            one picture is bad; carries a `reason` of `rows.REASONS` and becomes a row, never an exit

Any other exception is a bug: inside a stage `apply` turns it into a failed row, elsewhere it stops the run.
"""


class PackshotError(Exception):
    """What a person can read without a traceback."""


class ConfigError(PackshotError):
    """The recipe, the catalogue or the command line asks for something that cannot be."""


class InfrastructureError(PackshotError):
    """Weights, storage or a device do not answer: no row is to blame, the run stops."""


class StorageError(InfrastructureError):
    """A bucket or folder does not exist, refuses the credentials, or does not answer."""


class Missing(PackshotError):
    """A file is not there; the caller decides whether that is a row's fault or the run's."""


class Changed(PackshotError):
    """A file is no longer the version that was asked for."""


class TooManyBytes(PackshotError):
    """A file is larger than the caller allows; nothing of it was kept."""


class NeedsAPerson(PackshotError):
    """A run that went on would not do what was meant: a person has to look; nothing is published."""


class TooManyUnexpected(NeedsAPerson):
    """More rows failed for unexpected reasons than the run allows."""


class TooManyVanished(NeedsAPerson):
    """More items of the newest run are missing from the catalogue than may leave without a question."""


class ImageError(PackshotError):
    """One picture cannot be used; `reason` is a word of `rows.REASONS`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
