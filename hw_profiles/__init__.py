"""Costs of networks on a device, measured there or predicted from the device's profile."""

from hw_profiles.measure import Latency, measure_latency
from hw_profiles.profile import Profile, Validation, devices, part

__all__ = ["Latency", "Profile", "Validation", "devices", "measure_latency", "part"]
