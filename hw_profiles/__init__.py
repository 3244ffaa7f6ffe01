"""What a network costs on a device."""

from hw_profiles.measure import Latency, measure_latency

__all__ = ["Latency", "measure_latency"]
