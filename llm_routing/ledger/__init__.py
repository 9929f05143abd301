"""The usage ledger: attempts are written to local files and shipped to the database."""
