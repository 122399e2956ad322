"""The JSON Schema of the experiment file: pydantic's, plus metrics that are named from the catalogue (`use`)."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, TypeAdapter

from abtest.metrics.base import kinds
from abtest.metrics.catalog import entries


def schema_of(experiment: type[BaseModel]) -> dict[str, Any]:
    """Return the schema of an experiment file.

    Args:
        experiment: The model of the file; its `metrics` are told apart by `kind`, and get `use` as another way in.
    """
    schema = TypeAdapter(experiment).json_schema(mode="validation")
    definitions: dict[str, Any] = schema["$defs"]
    metrics = schema["properties"]["metrics"]
    definitions["CatalogueMetric"] = _catalogue_metric(definitions)
    metrics["items"] = {"anyOf": [{"$ref": "#/$defs/CatalogueMetric"}, metrics["items"]]}
    definitions["Cap"] = {"anyOf": [definitions["Cap"], {"type": "number", "exclusiveMinimum": 0}], "title": "Cap"}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "abtest.schema.json", **schema}


def _catalogue_metric(definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of `{ use = "..." }`: every key of every kind, none of them required."""
    keys: dict[str, Any] = {}
    for kind in kinds().values():
        for name, value in definitions[kind.__name__]["properties"].items():
            keys.setdefault(name, value)
    for name in ("kind", "catalogue"):
        keys.pop(name)
    guardrail, success = definitions["Guardrail"]["properties"], definitions["Success"]["properties"]
    keys["per"] = {"enum": ["call", "request", "unit"], "title": "Per"}
    keys["guardrail"] = _role(guardrail, "true takes the default margin and action of the catalogue")
    keys["success"] = _role(success, "true takes the default mde of the catalogue")
    names = [{"const": e.name, "description": e.definition} for e in entries().values()]
    return {
        "title": "CatalogueMetric",
        "description": "A metric of the catalogue (`abtest metrics` lists them); every key may be given instead of its default.",
        "type": "object",
        "properties": {"use": {"oneOf": names, "title": "Use"}, **keys},
        "required": ["use"],
        "additionalProperties": False,
    }


def _role(properties: dict[str, Any], description: str) -> dict[str, Any]:
    table = {"type": "object", "properties": properties, "additionalProperties": False}
    return {"anyOf": [{"type": "boolean"}, table], "description": description}
