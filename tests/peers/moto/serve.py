"""moto as an S3 server on a free port of this machine, with one bucket; it says its endpoint on standard output.

It does one request at a time: moto loses its footing where two replace one object at once. It ends when its standard
input does, so it does not outlive who started it.
"""

import logging
import sys
import threading

import boto3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

logging.getLogger("werkzeug").setLevel(logging.ERROR)
moto = DomainDispatcherApplication(create_backend_app)
one_at_a_time = threading.Lock()


def serve(environ, start_response):
    with one_at_a_time:
        return list(moto(environ, start_response))


server = make_server("127.0.0.1", 0, serve, threaded=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
endpoint = "http://127.0.0.1:%d" % server.server_port
boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1").create_bucket(Bucket=sys.argv[1])
print(endpoint, flush=True)
sys.stdin.read()
server.shutdown()
