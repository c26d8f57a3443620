"""Adapters between the fabric and serving engines, one package for each."""
