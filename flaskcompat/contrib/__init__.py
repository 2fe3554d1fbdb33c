"""Optional parts, one extra each; imported when a setting asks for them."""
