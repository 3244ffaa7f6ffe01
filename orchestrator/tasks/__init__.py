"""Tasks: what networks are trained for, and by which metric they are judged."""

from orchestrator.tasks.base import Metric, Task

__all__ = ["Metric", "Task"]
