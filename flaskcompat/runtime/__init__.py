"""Running the user's code (see README.md beside this file)."""
