"""What came out: records, fronts, curves, pictures and the report. Functions on arrays first, drawing last."""
