"""The ASGI application: the app's API, then static files, then the rest of Django."""

import os

from django.core.asgi import get_asgi_application as get_django_application

from llm_routing.asgi import get_asgi_application

from .static import with_static_files

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

application = get_asgi_application(
    with_static_files(get_django_application()), exit_zero_on_sigterm=True
)
