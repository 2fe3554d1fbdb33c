"""What mod_wsgi serves. The settings stand here: what Apache's SetEnv says reaches a request, and not the process."""

import os

# Else Haystack keeps an id in the home folder, and cannot even be imported where that is not writable.
os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"

from flaskcompat import create_app

application = create_app(
    {
        "FLASKCOMPAT_PIPELINES_DIR": "/opt/flaskcompat/pipelines",
        "FLASKCOMPAT_API_KEYS_FILE": "/opt/flaskcompat/keys",
        "FLASKCOMPAT_DATABASE_URL": "sqlite:////var/lib/flaskcompat/state.db",
        "FLASKCOMPAT_FILES_URL": "file:///var/lib/flaskcompat/files",
        # A client that has left is noticed when something is written to it, which a silent answer does this often.
        "FLASKCOMPAT_KEEP_ALIVE": 5.0,
    }
)
