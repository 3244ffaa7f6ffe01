"""Costs of networks on a device, measured there or predicted from the device's profile."""
