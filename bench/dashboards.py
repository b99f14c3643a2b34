"""What open dashboards cost (``watching`` measures it)."""

from __future__ import annotations

from bench.watching import dashboards as measure

__all__ = ["measure"]
