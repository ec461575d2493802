"""What Brainstem is measured beside: the pinned requirements of each, and the least that makes it answer a question."""
