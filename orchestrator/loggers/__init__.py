"""Trackers of experiments: TensorBoard, MLflow, and Weights & Biases, behind one small interface."""
