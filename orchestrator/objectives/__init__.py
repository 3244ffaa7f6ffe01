"""Objectives of a search: one file each, named after it, loaded by that name."""
