"""AWS's own signer over a request that somebody else made: sign_ses.py REQUEST.json, the keys in $SDK_KEY.

The request's X-Amz-Date is the moment of signing. Prints what the Authorization header has to be.
"""

from __future__ import annotations

import datetime
import json
import os
import sys
from pathlib import Path

import botocore.auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
key_id, _, secret = os.environ["SDK_KEY"].partition(":")
headers = {name: request["headers"][name] for name in ("content-type", "host")}
moment = datetime.datetime.strptime(request["headers"]["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC)
botocore.auth.get_current_datetime = lambda *_: moment
url = f"http://{headers['host']}{request['path']}"
signed = AWSRequest(request["method"], url, headers, request["body"].encode())
botocore.auth.SigV4Auth(Credentials(key_id, secret), "ses", "eu-central-1").add_auth(signed)
print(signed.headers["Authorization"])
