"""Sends the bytes of MAIL_RAW from MAIL_FROM to every address of MAIL_RCPT with smtplib."""

import os
import smtplib
import ssl
from pathlib import Path

host, port = os.environ["SMTP_HOST"], int(os.environ["SMTP_PORT"])
context = ssl.create_default_context()
content = Path(os.environ["MAIL_RAW"]).read_bytes()
implicit = os.environ["SMTP_SECURE"] == "implicit"

with smtplib.SMTP_SSL(host, port, context=context) if implicit else smtplib.SMTP(host, port) as connection:
    if not implicit:
        connection.starttls(context=context)
    if os.environ["SMTP_AUTH"]:
        connection.ehlo()
        connection.esmtp_features["auth"] = os.environ["SMTP_AUTH"]
    connection.login(os.environ["SMTP_USERNAME"], os.environ["SMTP_PASSWORD"])
    refused = connection.sendmail(os.environ["MAIL_FROM"], os.environ["MAIL_RCPT"].split(","), content)
raise SystemExit(1 if refused else 0)
