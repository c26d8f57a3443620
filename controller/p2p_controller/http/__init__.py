"""HTTP for people and monitoring: a thread beside the controller that asks it over ZMQ.

Nothing here reaches into the controller's objects: HTTP can do what ZMQ can, and no more.
"""
