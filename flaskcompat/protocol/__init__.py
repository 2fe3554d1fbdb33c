"""OpenAI's wire formats, without Flask, threads or I/O (see README.md beside this file)."""
