import uuid

from django.db import models


class Row(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)

    class Meta:
        abstract = True


class Tenant(Row):
    name = models.CharField(max_length=200)

    class Meta:
        db_table = "tenants"


class Doctor(Row):
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE)
    name = models.CharField(max_length=200)

    class Meta:
        db_table = "doctors"


class Appointment(Row):
    doctor = models.ForeignKey(Doctor, on_delete=models.CASCADE)
    status = models.CharField(max_length=20, default="BOOKED")

    class Meta:
        db_table = "appointments"


class Chat(Row):
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE)

    class Meta:
        db_table = "chats"


class Message(Row):
    chat = models.ForeignKey(Chat, on_delete=models.CASCADE)
    text = models.TextField()

    class Meta:
        db_table = "messages"
