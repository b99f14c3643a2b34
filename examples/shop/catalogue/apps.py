"""The catalogue as a Django application."""

from django.apps import AppConfig


class CatalogueConfig(AppConfig):
    """Products and orders."""

    name = "catalogue"
    default_auto_field = "django.db.models.BigAutoField"
