import os
from datetime import timedelta
from pathlib import Path

from celeriac.schedules import crontab

BASE_DIR = Path(__file__).resolve().parent.parent
SECRET_KEY = "not a secret"
DEBUG = False
ALLOWED_HOSTS = ["testserver"]
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "quiet", "shop.apps.ShopConfig"]
MIDDLEWARE: list[str] = []
ROOT_URLCONF = "proj.urls"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": BASE_DIR / "db.sqlite3",
        "CONN_MAX_AGE": int(os.environ.get("SHOP_CONN_MAX_AGE", "600")),
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "Europe/Vienna"

CELERY_TASK_TRACK_STARTED = True
CELERY_TASK_TIME_LIMIT = 60
CELERY_BEAT_SCHEDULE = {
    "seconds": {"task": "shop.tasks.tick", "schedule": 0.5, "args": ("seconds",)},
    "timedelta": {"task": "shop.tasks.tick", "schedule": timedelta(milliseconds=700), "args": ("timedelta",)},
    "crontab": {"task": "shop.tasks.tick", "schedule": crontab(), "args": ("crontab",)},
    "nightly": {"task": "shop.tasks.tick", "schedule": crontab(minute=30, hour=2), "args": ("nightly",)},
}
