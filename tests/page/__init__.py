"""The page in Chromium against the real service: what a person does and sees, and what a page must never do."""

WHALES = b"# Whales\n\n## Size\n\nThe blue whale is 30 metres long.\n\n## Food\n\nIt eats four tonnes of krill a day.\n"
