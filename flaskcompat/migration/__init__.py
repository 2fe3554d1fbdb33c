"""Sources that were written for Hayhooks, rewritten to import flaskcompat by name: text in, text and notes out."""

from flaskcompat.migration.folder import FILES, migrate_texts
from flaskcompat.migration.source import Migrated, Note

__all__ = ["FILES", "Migrated", "Note", "migrate_texts"]
