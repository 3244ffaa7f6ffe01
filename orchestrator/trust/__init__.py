"""`paretoray trust`: whether inherited accuracies rank networks as they truly are."""
