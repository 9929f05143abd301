"""The admin, and the app at the root: `/api/llm/` and `/v1/`."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("", include("llm_routing.urls")),
]
