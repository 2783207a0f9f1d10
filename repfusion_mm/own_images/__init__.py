"""Distill a teacher on a folder of images, with one command."""
