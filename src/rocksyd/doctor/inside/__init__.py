"""The examination itself, in a process that has loaded the application."""
