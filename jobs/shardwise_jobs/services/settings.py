"""Settings by environment variable: a bad value ends the start, and what is in force can be shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from shardwise.engine.errors import BadConfiguration


class EnvironmentSettings(BaseModel):
    """A field is set by the variable that is its alias, or by its name."""

    model_config = ConfigDict(frozen=True, extra="ignore", validate_by_name=True, validate_by_alias=True)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], **given: object) -> Self:
        """Read the settings; `given`, by field, go before variables.

        An empty variable counts as unset, and so does None; a bad value is named in `BadConfiguration`.
        """
        aliases = {name: field.alias for name, field in cls.model_fields.items()}
        values: dict[str, object] = {
            name: environment[alias] for name, alias in aliases.items() if alias and environment.get(alias)
        }
        values |= {name: value for name, value in given.items() if value is not None}
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            name = str(first["loc"][0])
            shown = name if given.get(name) is not None else aliases.get(name) or name
            raise BadConfiguration(f"{shown}={first['input']!r}: {first['msg']}") from None

    def effective(self) -> dict[str, object]:
        """Return what is in force, by environment variable."""
        return self.model_dump(by_alias=True)
