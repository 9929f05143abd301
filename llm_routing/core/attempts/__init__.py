"""The attempts at a request: admission, retry, failover, hedging and streams."""
