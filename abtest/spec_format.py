"""The key `[format]` of an experiment file: which JSON Schema its answers promise to keep."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field

from abtest.ingest.format_schema import FormatChecks, FormatRule, FormatSchema
from abtest.metrics.base import Strict


class AnswerFormat(Strict):
    """Answers are checked at ingest where the log has them and does not say `format_ok` itself; decides nothing by itself."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True, serialize_by_alias=True)

    schema_file: Annotated[str, Field(alias="schema", min_length=1, description="a JSON Schema, beside this file")]
    surface: Annotated[str | None, Field(description="only answers on this surface; default: all of them")] = None

    def checks(self, folder: Path) -> FormatChecks:
        """Return what fills `format_ok` at ingest; raises SpecError for a schema that cannot be used."""
        return FormatChecks([FormatRule(FormatSchema.from_file(folder / self.schema_file), self.surface)])
