"""Devices: their RPC server, the tracker, and the sessions that ask for them."""
