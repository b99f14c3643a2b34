"""Products and orders in Django's admin."""

from django.contrib import admin

from catalogue.models import Order, OrderLine, Product


class OrderLineInline(admin.TabularInline):
    """An order's lines, below it."""

    model = OrderLine
    extra = 0
    raw_id_fields = ("product",)


@admin.register(Product)
class ProductAdmin(admin.ModelAdmin):
    """Products, by category."""

    list_display = ("sku", "name", "category", "price_cents", "stock")
    list_filter = ("category",)
    search_fields = ("sku", "name")


@admin.register(Order)
class OrderAdmin(admin.ModelAdmin):
    """Orders, the newest first."""

    list_display = ("number", "email", "status", "placed_at")
    list_filter = ("status",)
    search_fields = ("number", "email")
    inlines = (OrderLineInline,)
