"""The graph behind HTTP: the same nodes as at night, as Ray Serve deployments."""
