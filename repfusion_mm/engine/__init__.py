"""Hooks, optimizers, checkpoints and exact resume."""
