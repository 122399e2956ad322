"""Peers, each in an environment of its own: their pins do not agree with ours, nor with each other's."""
