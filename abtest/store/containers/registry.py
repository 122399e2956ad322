"""Finds codecs and containers: every module of this package that defines `CODEC` or `CONTAINER` is one."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache

import abtest.store.containers as package
from abtest.store.containers.base import Codec, Container, Source

FALLBACK = "lines"
"""What a file is when nothing else claims it."""


@cache
def codecs() -> Mapping[str, Codec]:
    """Return all codecs by name."""
    found = (_attribute(name, "CODEC") for name in _modules())
    return {codec.name: codec for codec in found if isinstance(codec, Codec)}


@cache
def containers() -> Mapping[str, Container]:
    """Return all containers by name."""
    found = (_attribute(name, "CONTAINER") for name in _modules())
    return {container.name: container for container in found if isinstance(container, Container)}


def codec_of(head: bytes) -> Codec | None:
    """Return the codec whose magic bytes a file begins with; None for a plain file."""
    return next((codec for codec in codecs().values() if head.startswith(codec.magic)), None)


def choose(file: Source) -> Container:
    """Return the container that claims the file, else lines."""
    known = containers()
    for name, container in known.items():
        if name != FALLBACK and container.claims(file):
            return container
    return known[FALLBACK]


@cache
def _modules() -> tuple[str, ...]:
    return tuple(sorted(module.name for module in pkgutil.iter_modules(package.__path__)))


def _attribute(module: str, name: str) -> object:
    return getattr(importlib.import_module(f"{package.__name__}.{module}"), name, None)
