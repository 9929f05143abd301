"""The ASGI application: static files, then the app's API, then the rest of Django."""

import os

from llm_routing.asgi import get_asgi_application

from .static import with_static_files

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

application = with_static_files(get_asgi_application(exits_in_order=True))
