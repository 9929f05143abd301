"""The configuration in the database, compiled into snapshots that the router reads."""
