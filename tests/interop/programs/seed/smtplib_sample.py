"""SendPost's documented Python sample, the same library calls.

What differs comes from the environment: SMTP_HOST, SMTP_PORT, SMTP_USERNAME, SMTP_PASSWORD, and SSL_CERT_FILE
for the CA. MAIL_SENT_COPY names a file for the text that was handed to `sendmail`.
"""

import os
import ssl
from email.mime.text import MIMEText
from pathlib import Path
from smtplib import SMTP

sender = "erlich@piedpiper.com"
destination = ["gilfoyle@piedpiper.com"]

msg = MIMEText("Test message\n", "plain")
msg["Subject"] = "Sent from Python"
msg["From"] = sender

conn = SMTP(os.environ["SMTP_HOST"], int(os.environ["SMTP_PORT"]))
try:
    conn.ehlo()
    context = ssl.create_default_context()
    conn.starttls(context=context)
    conn.ehlo()
    conn.set_debuglevel(True)
    conn.login(os.environ["SMTP_USERNAME"], os.environ["SMTP_PASSWORD"])
    refused = conn.sendmail(sender, destination, msg.as_string())
finally:
    conn.quit()
Path(os.environ["MAIL_SENT_COPY"]).write_text(msg.as_string())
raise SystemExit(1 if refused else 0)
