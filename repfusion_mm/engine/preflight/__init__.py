"""Checks of model and data before the first iteration."""

__all__ = []
