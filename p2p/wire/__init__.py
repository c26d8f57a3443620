"""The control plane's messages, their encoding, and the sockets that carry them."""
