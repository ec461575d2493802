"""A whole backend on one machine, for development: complete, offline, and refused on Cloud Run."""
