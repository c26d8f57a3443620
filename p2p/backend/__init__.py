"""The coordinator of an instance: index, leases, fetch plans, and the service for its peers."""
