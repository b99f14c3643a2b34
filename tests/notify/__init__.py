"""Alerts: real receivers, told by a real daemon."""
