"""Hydra finds launchers in this package by its name."""
