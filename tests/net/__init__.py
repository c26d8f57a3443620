"""Hosts made of network namespaces: links that are cut, one way too, and links that are slow."""
