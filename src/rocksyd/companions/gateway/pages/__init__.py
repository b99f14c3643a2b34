"""The pages for people, a module each. Begins at ``site``."""
