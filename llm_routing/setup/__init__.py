"""The first configuration: what `manage.py setup_llm_configuration` writes.

`catalogue` is the data, `prices` what it costs, `configure` what is written and what is left alone.
"""
