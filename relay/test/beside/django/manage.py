"""A Django project in one file and an app: what `django-admin startproject` makes, without what it does not need."""
import os
import sys
from urllib.parse import unquote, urlparse

from django.conf import settings
from django.core.management import execute_from_command_line

url = urlparse(os.environ["DATABASE_URL"])
settings.configure(
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": url.path[1:],
            "USER": unquote(url.username or ""),
            "PASSWORD": unquote(url.password or ""),
            "HOST": url.hostname,
            "PORT": url.port or 5432,
        }
    },
    INSTALLED_APPS=["clinic"],
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    USE_TZ=True,
)
execute_from_command_line(sys.argv)
