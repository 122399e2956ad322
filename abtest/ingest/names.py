"""The names under which users log experiment, variant, unit and prompt version; the same in every format."""

from __future__ import annotations

ALIASES = {
    "experiment_id": ("experiment_id", "experiment", "exp"),
    "variant": ("variant",),
    "unit_id": ("unit_id", "user_id"),
    "prompt_name": ("prompt_name",),
    "prompt_version": ("prompt_version",),
    "prompt_sha256": ("prompt_sha256",),
    "surface": ("surface", "feature"),
    "environment": ("environment",),
    "request_id": ("request_id",),
    "session_id": ("session_id",),
    "ruleset_version": ("ruleset_version",),
    "index_id": ("index_id",),
    "embedding_model_version": ("embedding_model_version",),
}
"""Native field: its names in metadata and as `name:value` tags, best first; each also with the prefix `abtest.`."""
