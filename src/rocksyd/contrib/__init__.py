"""Integrations that come with rocksyd. Each is loaded only where it is named."""
