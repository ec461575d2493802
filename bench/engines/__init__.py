"""The two engines that were weighed against each other, each as little as carries an answer: neither guarantees anything.

Both answer plain requests by Flask in threads and pump streams on one event loop (`bench.engines.relay`). They differ in who owns the
socket: gunicorn's own `asgi` worker throughout (`asgi`), or its `gthread` worker, which hands it to the loop for a stream (`handed`).
"""
