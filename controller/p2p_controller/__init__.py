"""The lightweight controller: a directory of who holds which chunk, and who is a member."""
