"""What outlives a request: responses, chat completions, conversations, files (see README.md beside this file)."""
