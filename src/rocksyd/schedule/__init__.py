"""Schedules as decisions: from definitions, position and *now* to what is to be submitted. Pure: no process, clock or store."""
