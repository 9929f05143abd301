"""Serves the static files of the installed apps from where they lie, without `collectstatic`."""

from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from servestatic import ServeStaticASGI

from llm_routing.asgi import Application


def with_static_files(application: Application) -> ServeStaticASGI:
    """`application`, with the files known at this moment answered before it is asked.

    The files are looked up once; any other request costs one look into a dict.
    """
    served = ServeStaticASGI(
        application, max_age=0 if settings.DEBUG else 3600, allow_all_origins=False
    )
    for finder in get_finders():
        for path, storage in finder.list([]):
            url = f"/{settings.STATIC_URL.strip('/')}/{path}"
            if url not in served.files:
                served.add_file_to_dictionary(url, storage.path(path))
    return served
