"""Frozen, strict settings, and the checkpoint, a model's weights pinned: what recipes and tasks stand on."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator


class Settings(BaseModel):
    """Frozen; an unknown key is an error, so a slip of typing cannot pass as a default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def weights(self) -> dict[str, Checkpoint]:
        """The checkpoints that these settings load, by what they are loaded as."""
        return {}


class Checkpoint(Settings):
    """A model's weights, pinned: data, not code.

    In YAML one string will do: `embedded:detector`, `org/model@<40 hex digits>`, or `path#sha256=<64 hex digits>`.
    """

    uri: str = Field(description="`embedded:NAME`, a hub id `org/model`, or the path of a folder or file of weights.")
    revision: str | None = Field(None, description="A hub id's commit: 40 hex digits. A branch could move under a run.")
    sha256: str | None = Field(None, description="The hash that a path's weights must have; 64 hex digits.")

    @property
    def is_embedded(self) -> bool:
        """Whether these weights ship with the package and know the sample world alone."""
        return self.uri.startswith("embedded:")

    @model_validator(mode="after")
    def _pinned(self) -> Checkpoint:
        if self.revision is not None and not re.fullmatch(r"[0-9a-f]{40}", self.revision):
            raise ValueError(
                f"`revision` is {self.revision!r}, which may be the name of a branch and can move under a run; "
                f"give the 40-digit hash of one of {self.uri!r}'s commits"
            )
        if self.sha256 is not None and not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise ValueError(f"`sha256` is {self.sha256!r}; expected 64 hex digits")
        return self


def _checkpoint(given: Any) -> Any:
    if not isinstance(given, str):
        return given
    if "#sha256=" in given:
        uri, _, digest = given.partition("#sha256=")
        return {"uri": uri, "sha256": digest}
    uri, at, revision = given.partition("@")
    return {"uri": uri, "revision": revision} if at else {"uri": given}


AnyCheckpoint = Annotated[Checkpoint, BeforeValidator(_checkpoint, json_schema_input_type=str | Checkpoint)]
