"""Spec and store in, results out."""
