"""Analysis of results: records, fronts, curves, figures and reports. Arrays are computed first and drawn last."""
