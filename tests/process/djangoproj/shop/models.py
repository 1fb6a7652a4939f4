from django.db import models


class Order(models.Model):
    name = models.CharField(max_length=100)

    class Meta:
        app_label = "shop"


class Tick(models.Model):
    entry = models.CharField(max_length=100)
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        app_label = "shop"
