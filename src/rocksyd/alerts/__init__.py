"""Alerts: what somebody has to be told of, and how often. Pure: no process, clock or store (``companions.notify`` has those)."""
