"""The shop's pages: products with a search, one product, an order form, and the orders as they come."""

from __future__ import annotations

import time
from collections.abc import Iterator

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, render

from catalogue.models import Order, Product
from catalogue.orders import OutOfStock, place
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


def order(request: HttpRequest) -> HttpResponse:
    """A form; sent, it places the order."""
    said = {"sku": request.POST.get("sku", request.GET.get("sku", "")), "email": request.POST.get("email", "")}
    if request.method != "POST":
        return render(request, "catalogue/order.html", said)
    try:
        placed = place(said["email"], {said["sku"]: int(request.POST.get("quantity", "1"))})
    except (OutOfStock, Product.DoesNotExist, ValueError) as error:
        return render(request, "catalogue/order.html", {**said, "error": str(error) or "there is no such article"}, status=409)
    return render(request, "catalogue/order.html", {**said, "placed": placed}, status=201)


def live(request: HttpRequest) -> HttpResponse:
    """A page that shows orders as they come."""
    return render(request, "catalogue/live.html")


def orders(request: HttpRequest) -> HttpResponse:
    """The newest orders as server-sent events; a stream that outlives a deploy, in the code that it began with."""
    limit = min(int(request.GET.get("limit", "600")), 600)

    def events() -> Iterator[str]:
        seen: set[str] = set()
        for turn in range(limit):
            if turn:
                time.sleep(1.0)
            for one in reversed(Order.objects.all()[:10]):
                if one.number not in seen:
                    seen.add(one.number)
                    yield f"data: {one.number[:8]} {one.email} {one.total_cents / 100:.2f}\n\n"
            yield ": still here\n\n"

    answer = StreamingHttpResponse(events(), content_type="text/event-stream")
    answer["Cache-Control"] = "no-store"
    return answer


def about(request: HttpRequest) -> HttpResponse:
    """A page without a database: the deploy asks for it."""
    return HttpResponse("the example shop of rocksyd\n", content_type="text/plain")
