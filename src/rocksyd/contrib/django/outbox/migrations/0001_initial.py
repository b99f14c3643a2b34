"""The table of the outbox."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):  # type: ignore[misc]
    """Makes it."""

    initial = True
    dependencies: list[tuple[str, str]] = []
    operations = [
        migrations.CreateModel(
            name="Waiting",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("key", models.CharField(max_length=128, unique=True)),
                ("order", models.JSONField()),
                ("created", models.DateTimeField(auto_now_add=True)),
                ("trouble", models.CharField(blank=True, default="", max_length=500)),
            ],
            options={"db_table": "rocksyd_outbox", "verbose_name": "waiting order"},
        ),
    ]
