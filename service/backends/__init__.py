"""The outside world behind Protocols: `interfaces` says what is asked of it, the adapters know whom they ask."""
