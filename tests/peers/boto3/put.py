"""Puts one object with boto3, as the environment says: `put.py BUCKET KEY`.

What matters is the request that it makes; that it fails is no failure.
"""

import sys

import boto3
import botocore.exceptions

try:
    client = boto3.session.Session().client("s3")
    client.put_object(Bucket=sys.argv[1], Key=sys.argv[2], Body=b"first")
except botocore.exceptions.BotoCoreError as error:
    print(error, file=sys.stderr)
except botocore.exceptions.ClientError as error:
    print(error, file=sys.stderr)
