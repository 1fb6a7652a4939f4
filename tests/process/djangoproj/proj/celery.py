import os

from celeriac import Celeriac

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "proj.settings")

app = Celeriac("proj")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
