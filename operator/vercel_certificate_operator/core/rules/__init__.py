"""The rules, by subject. ``decide`` has their order."""
