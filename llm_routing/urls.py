"""The URLs of the API: `path("", include("llm_routing.urls"))`, under a prefix or not.

Whatever is below `api/llm/` and `v1/` is answered here, unknown paths too, so that a client always
reads its own format's errors: include it after URLs of your own that are there.
"""

from django.urls import path

from .api import get_api

urlpatterns = [path("", get_api().urls)]
