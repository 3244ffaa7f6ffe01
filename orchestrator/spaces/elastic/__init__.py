"""Elastic spaces: the smaller networks inside a trained one, which share its weights."""
