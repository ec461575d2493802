"""What tests stand on: real servers on sockets and builders of real objects, never patched methods."""
