"""Three instances with a real model share KV over NIXL while two of them are killed."""
