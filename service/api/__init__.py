"""The HTTP edge: with `app` the only place that knows Flask."""
