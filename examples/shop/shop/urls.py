"""The shop's pages."""

from django.contrib import admin
from django.urls import path

from catalogue import views

urlpatterns = [
    path("", views.products, name="products"),
    path("products/<slug:sku>/", views.product, name="product"),
    path("order/", views.order, name="order"),
    path("live/", views.live, name="live"),
    path("live/orders", views.orders, name="orders"),
    path("about/", views.about, name="about"),
    path("admin/", admin.site.urls),
]
