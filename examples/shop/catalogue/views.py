"""The shop's pages: a list of products with a search, and one product with its offers."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render

from catalogue.models import Product
from shop import prices

_PAGE = 50


def products(request: HttpRequest) -> HttpResponse:
    """All products, or those that ``?q=`` finds."""
    query = request.GET.get("q", "")
    shown = Product.objects.all()
    if query:
        shown = shown.filter(sku__in=[article.sku for article in prices.load().search(query)])
    return render(request, "catalogue/products.html", {"products": shown[:_PAGE], "query": query})


def product(request: HttpRequest, sku: str) -> HttpResponse:
    """One product, and the best offer for buying it again."""
    found = get_object_or_404(Product, sku=sku)
    return render(request, "catalogue/product.html", {"product": found, "quote": prices.load().best(sku)})
