"""One operation of the controller per module: state, message and time in, answer out."""
