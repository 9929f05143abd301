"""The first configuration, as `manage.py setup_llm_configuration` writes it.

`configuration.catalogue` holds the data and `configuration.prices` the prices; `configure` decides
what to write.
"""
