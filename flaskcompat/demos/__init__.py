"""Models to try the server with: real Haystack pipelines that need no key and no network."""
