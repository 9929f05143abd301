"""HTTP calls to providers over pooled connections."""
