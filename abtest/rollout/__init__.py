"""Releases: decide, record, act."""
