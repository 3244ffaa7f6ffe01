"""`paretoray profile`: measure a device, or fit one to measured networks."""
