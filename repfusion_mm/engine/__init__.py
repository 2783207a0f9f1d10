"""Hooks, optimizers, checkpoints and exact resume."""

__all__ = []
