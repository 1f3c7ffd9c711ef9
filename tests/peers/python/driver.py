"""The Python reference implementation behind a line protocol: one JSON request a line, one JSON answer a line.

`tests/peers/README.md` has the protocol and every operation. This file only translates: what an answer says was
computed by `deadline-job-attachments`. Whatever goes wrong inside an operation is its answer; the driver ends with
its input, and only then.
"""

import base64
import dataclasses
import io
import json
import os
import sys
import tempfile
from contextlib import ExitStack
from datetime import datetime
from unittest import mock
from pathlib import Path, PurePosixPath, PureWindowsPath

# The library prints here and there; answers have the real standard output to themselves.
ANSWERS = os.fdopen(os.dup(1), "w", encoding="ascii")
os.dup2(2, 1)

import boto3
from click.testing import CliRunner
from deadline.client import api
from deadline.client.api import _list_jobs_by_filter_expression, _submit_job_bundle
from deadline.client.cli import _incremental_download, main as client_main
from deadline.client.cli._groups import queue_group
from deadline.client.config import config_file
from deadline.client.job_bundle.loader import read_yaml_or_json_object
from deadline.client.job_bundle.parameters import apply_job_parameters, read_job_bundle_parameters
from deadline.client.job_bundle.submission import AssetReferences
from deadline.job_attachments import download
from deadline.job_attachments._glob import _glob_paths
from deadline.job_attachments.api.manifest import (
    _manifest_diff,
    _manifest_download,
    _manifest_snapshot,
)
from deadline.job_attachments.asset_manifests.decode import decode_manifest
from deadline.job_attachments.asset_manifests.hash_algorithms import HashAlgorithm, hash_data
from deadline.job_attachments.asset_manifests.v2023_03_03.asset_manifest import (
    AssetManifest,
    ManifestPath,
)
from deadline.job_attachments.caches import (
    WHOLE_FILE_RANGE_END,
    HashCache,
    HashCacheEntry,
    S3CheckCache,
    S3CheckCacheEntry,
)
from deadline.job_attachments.models import (
    AssetType,
    Attachments,
    FileConflictResolution,
    FileSystemLocation,
    FileSystemLocationType,
    JobAttachmentS3Settings,
    ManifestProperties,
    PathFormat,
    StorageProfile,
    StorageProfileOperatingSystemFamily,
)
from deadline.job_attachments.upload import S3AssetManager, S3AssetUploader


def to_bytes(text):
    return base64.b64decode(text, validate=True)


def from_bytes(data):
    return base64.b64encode(data).decode("ascii")


def to_name(text):
    """A path as Python has it: what is not UTF-8 becomes lone surrogates."""
    return os.fsdecode(to_bytes(text))


def from_name(name):
    try:
        return from_bytes(os.fsencode(name))
    except UnicodeEncodeError:
        # A lone surrogate that stands for no byte.
        return from_bytes(name.encode("utf-8", "surrogatepass"))


def to_manifest(text):
    return decode_manifest(to_bytes(text).decode("utf-8"))


def from_manifest(manifest):
    return None if manifest is None else from_bytes(manifest.encode().encode("utf-8"))


def from_entry(entry):
    return {
        "path": from_name(entry.path),
        "hash": entry.hash,
        "size": entry.size,
        "mtime": entry.mtime,
    }


def error_of(error):
    """Text as JSON can hold it everywhere: lone surrogates are written as escapes."""
    text = str(error).encode("utf-8", "backslashreplace").decode("utf-8")
    return {"type": type(error).__name__, "text": text}


def encode(request):
    entries = [
        ManifestPath(
            path=to_name(entry["path"]),
            hash=entry["hash"],
            size=entry["size"],
            mtime=entry["mtime"],
        )
        for entry in request["entries"]
    ]
    total_size = sum(entry.size for entry in entries)
    manifest = AssetManifest(
        hash_alg=HashAlgorithm.XXH128, paths=entries, total_size=total_size
    )
    return {"manifest": from_manifest(manifest)}


def decode(request):
    manifest = to_manifest(request["manifest"])
    entries = [from_entry(entry) for entry in manifest.paths]
    outside = None
    try:
        paths = [entry.path for entry in manifest.paths]
        download._ensure_paths_within_directory(request.get("directory", "/dst"), paths)
    except Exception as error:
        outside = error_of(error)
    return {
        "entries": entries,
        "total_size": manifest.totalSize,
        "manifest": from_manifest(manifest),
        "outside": outside,
    }


def merge(request):
    manifests = [to_manifest(text) for text in request["manifests"]]
    return {"manifest": from_manifest(download.merge_asset_manifests(manifests))}


def hash_bytes(request):
    return {"hash": hash_data(to_bytes(request["bytes"]), HashAlgorithm.XXH128)}


def snapshot(request):
    with tempfile.TemporaryDirectory() as work:
        base = None
        if request.get("base") is not None:
            base = os.path.join(work, "base")
            Path(base).write_bytes(to_bytes(request["base"]))
        made = _manifest_snapshot(
            root=to_name(request["root"]),
            destination=os.path.join(work, "made"),
            name="snapshot",
            include=request.get("include"),
            exclude=request.get("exclude"),
            diff=base,
            force_rehash=request.get("force_rehash", False),
            hash_cache_dir=cache_dir(request, work),
        )
        if made is None:
            return {"manifest": None}
        return {"manifest": from_bytes(Path(made.manifest).read_bytes())}


def diff(request):
    with tempfile.TemporaryDirectory() as work:
        manifest = os.path.join(work, "manifest")
        Path(manifest).write_bytes(to_bytes(request["manifest"]))
        found = _manifest_diff(
            manifest=manifest,
            root=to_name(request["root"]),
            include=request.get("include"),
            exclude=request.get("exclude"),
            force_rehash=request.get("force_rehash", False),
            cache_dir=cache_dir(request, work),
        )
        return {
            kind: sorted(from_name(str(path)) for path in getattr(found, kind))
            for kind in ("new", "modified", "deleted")
        }


def cache_dir(request, work):
    """The directory of the request, else one that goes with it: never the user's own cache."""
    if request.get("cache") is not None:
        return to_name(request["cache"])
    return os.path.join(work, "cache")


def glob_paths(request):
    root = to_name(request["root"])
    include = request.get("include") or ["**/*"]
    found = _glob_paths(root, include=include, exclude=request.get("exclude"))
    return {"paths": sorted(from_name(path) for path in found)}


def matches_filters(request):
    path, filters = to_name(request["path"]), request["filters"]
    return {"matches": download._matches_any_filter(path, filters)}


def hash_cache_get(request):
    with HashCache(to_name(request["cache"])) as cache:
        entry = cache.get_entry(
            to_name(request["path"]),
            HashAlgorithm.XXH128,
            request.get("range_start", 0),
            request.get("range_end", WHOLE_FILE_RANGE_END),
        )
    if entry is None:
        return {"entry": None}
    kept = {"hash": entry.file_hash, "last_modified_time": entry.last_modified_time}
    return {"entry": kept}


def hash_cache_put(request):
    with HashCache(to_name(request["cache"])) as cache:
        cache.put_entry(
            HashCacheEntry(
                file_path=to_name(request["path"]),
                hash_algorithm=HashAlgorithm.XXH128,
                file_hash=request["hash"],
                last_modified_time=request["last_modified_time"],
                range_start=request.get("range_start", 0),
                range_end=request.get("range_end", WHOLE_FILE_RANGE_END),
            )
        )
    return {}


def s3_check_cache_get(request):
    with S3CheckCache(to_name(request["cache"])) as cache:
        entry = cache.get_entry(request["key"])
    return {"last_seen_time": None if entry is None else entry.last_seen_time}


def s3_check_cache_put(request):
    with S3CheckCache(to_name(request["cache"])) as cache:
        cache.put_entry(
            S3CheckCacheEntry(s3_key=request["key"], last_seen_time=request["last_seen_time"])
        )
    return {}


def to_session(request):
    """A session that no other request has had: the library keeps clients by it. boto3 finds the server by the environment."""
    os.environ.update(
        AWS_ENDPOINT_URL=request["endpoint"],
        AWS_EC2_METADATA_DISABLED="true",
        NO_PROXY="127.0.0.1",
    )
    return boto3.Session(
        aws_access_key_id=request["access_key"],
        aws_secret_access_key=request["secret_key"],
        # Or the server would be asked for it.
        aws_account_id=request.get("account"),
        region_name=request["region"],
    )


def s3_read(request):
    asset_root, manifest = download.get_asset_root_and_manifest_from_s3(
        request["key"], request["bucket"], to_session(request)
    )
    return {"asset_root": asset_root, "manifest": from_manifest(manifest)}


def s3_outputs(request):
    settings = to_settings(request)
    found = download.get_output_manifests_by_asset_root(
        settings,
        request["farm"],
        request["queue"],
        request["job"],
        request.get("step"),
        request.get("task"),
        request.get("session_action"),
        session=to_session(request),
    )
    merged = {root: download.merge_asset_manifests(manifests) for root, manifests in found.items()}
    return {"outputs": {root: from_manifest(manifest) for root, manifest in merged.items()}}


def s3_write(request):
    said = ManifestProperties(
        rootPath=request["asset_root"],
        rootPathFormat=PathFormat.POSIX,
        fileSystemLocationName=request.get("location"),
    )
    uploader = S3AssetUploader(
        s3_max_pool_connections=50,
        small_file_threshold_multiplier=20,
        session=to_session(request),
    )
    uploader.upload_bytes_to_s3(
        io.BytesIO(to_bytes(request["manifest"])),
        request["bucket"],
        request["key"],
        extra_args=said.as_output_metadata(),
    )
    return {}


def s3_objects(request):
    client = to_session(request).client("s3")
    pages = client.get_paginator("list_objects_v2").paginate(
        Bucket=request["bucket"], Prefix=request["prefix"]
    )
    objects = {}
    for page in pages:
        for listed in page.get("Contents", []):
            found = client.get_object(Bucket=request["bucket"], Key=listed["Key"])
            objects[listed["Key"]] = {
                "bytes": from_bytes(found["Body"].read()),
                "metadata": found["Metadata"],
            }
    return {"objects": objects}


class JobOfRequest:
    """What the Deadline service would answer of a job: the documents of the request."""

    def __init__(self, request):
        self.request = request

    def get_job(self, **_):
        return {"attachments": self.request["attachments"]}

    def list_step_dependencies(self, **_):
        return {"dependencies": [{"stepId": step} for step in self.request["dependencies"]]}


def manifest_download(request):
    downloaded = _manifest_download(
        deadline_client=JobOfRequest(request),
        download_dir=to_name(request["directory"]),
        farm_id=request["farm"],
        queue_id=request["queue"],
        job_id=request["job"],
        step_id=request.get("step"),
        asset_type=AssetType(request["asset_type"]),
        queue_role_session=to_session(request),
        queue_s3_settings=to_settings(request),
    )
    return dataclasses.asdict(downloaded)


def attachments(request):
    properties = [
        ManifestProperties(
            rootPath=of["root"],
            rootPathFormat=PathFormat(of["format"]),
            fileSystemLocationName=of.get("location"),
            inputManifestPath=of.get("inputs"),
            inputManifestHash=of.get("inputs_hash"),
            outputRelativeDirectories=of.get("outputs"),
        )
        for of in request["roots"]
    ]
    document = Attachments(manifests=properties, fileSystem=request["file_system"]).to_dict()
    return {"document": json.dumps(document)}


def bundle(request):
    folder = to_name(request["folder"])
    parameters = read_job_bundle_parameters(folder)
    found = read_yaml_or_json_object(folder, "asset_references", required=False)
    references = AssetReferences.from_dict(found)
    given = [{"name": name, "value": value} for name, value in request["given"].items()]
    os.chdir(to_name(request["working_dir"]))
    apply_job_parameters(given, folder, parameters, references)
    return {
        "input_files": sorted(references.input_filenames),
        "input_directories": sorted(references.input_directories),
        "outputs": sorted(references.output_directories),
        "references": sorted(references.referenced_paths),
        "values": {parameter["name"]: parameter.get("value") for parameter in parameters},
    }


def input_name(request):
    path = {"posix": PurePosixPath, "windows": PureWindowsPath}[request["format"]]
    _, _, name = S3AssetUploader._gather_upload_metadata(
        manifest=to_manifest(request["manifest"]),
        source_root=path(request["root"]),
        manifest_name_suffix="input",
    )
    return {"name": name}


def to_settings(request):
    return JobAttachmentS3Settings(
        s3BucketName=request["bucket"], rootPrefix=request["prefix"]
    )


def upload(request):
    manager = S3AssetManager(
        farm_id="farm-1",
        queue_id="queue-1",
        job_attachment_settings=to_settings(request),
        session=to_session(request),
    )
    root, cache = to_name(request["root"]), to_name(request["cache"])
    files = [str(path) for path in Path(root).rglob("*") if path.is_file()]
    group = manager.prepare_paths_for_upload(files, [], [])
    _, [manifest] = manager.hash_assets_and_create_manifest(
        group.asset_groups, group.total_input_files, group.total_input_bytes, cache
    )
    statistics, attachments = manager.upload_assets([manifest], s3_check_cache_dir=cache)
    return {
        "manifest": from_manifest(manifest.asset_manifest),
        "key": attachments.manifests[0].inputManifestPath,
        "processed_files": statistics.processed_files,
        "skipped_files": statistics.skipped_files,
    }


class Created(Exception):
    """The call that would have made the job."""


class Service:
    """As much of the service as a submission asks before it makes the job."""

    def __init__(self, request):
        self.settings = {"s3BucketName": request["bucket"], "rootPrefix": request["prefix"]}

    def get_queue(self, **_):
        return {"displayName": "queue", "jobAttachmentSettings": self.settings}

    def create_job(self, **call):
        raise Created(call)


def no_telemetry(telemetry=None):
    """The client's functions and their wrappers ask for it in two places."""
    name = "get_deadline_cloud_library_telemetry_client"
    given = telemetry or mock.Mock()
    return [mock.patch.object(of, name, lambda *_, **__: given) for of in (api, api._telemetry)]


class Documents(Service):
    """A service that answers with the documents of a request: one queue, one job and its sessions."""

    def __init__(self, request):
        super().__init__(request)
        self.documents = request["documents"]

    def get_queue(self, queueId, **asked):
        return {"queueId": queueId, **super().get_queue(**asked)}

    def get_job(self, **_):
        return with_times(self.documents["job"])

    def search_jobs(self, filterExpressions, **_):
        # The job has ended: it is not among those that are running.
        is_asked = "ENDED_AT" in str(filterExpressions)
        jobs = [self.get_job()] if is_asked else []
        for job in jobs:
            job.pop("attachments")
            job.pop("storageProfileId", None)
        return {"jobs": jobs, "totalResults": len(jobs)}

    def get_step(self, **_):
        return {"name": "a step"}

    def get_task(self, **_):
        return {"parameters": {}, "latestSessionActionId": self.documents["action"]}

    def get_storage_profile_for_queue(self, storageProfileId, **_):
        return self.documents["profiles"][storageProfileId]

    def get_paginator(self, name):
        return mock.Mock(paginate=getattr(self, name))

    def list_sessions(self, **_):
        yield {"sessions": with_times(self.documents["sessions"])}

    def list_session_actions(self, sessionId, **_):
        yield {"sessionActions": with_times(self.documents["actions"][sessionId])}


def with_times(document):
    """A copy, with the times as boto3 has them."""

    def times(of):
        is_time = lambda name, value: name.endswith("At") and isinstance(value, str)
        return {n: datetime.fromisoformat(v) if is_time(n, v) else v for n, v in of.items()}

    return json.loads(json.dumps(document), object_hook=times)


def client(request):
    """The client's own program, with everything but the service and the keys that it gives out."""
    work = to_name(request["cache"])
    service, telemetry = Documents(request), mock.Mock()
    served = lambda *_, **__: service
    keys = lambda *_, **__: to_session(request)
    patches = [
        mock.patch.dict(os.environ, DEADLINE_CONFIG_FILE_PATH=os.path.join(work, "config"), HOME=work),
        mock.patch.object(config_file, "get_cache_directory", lambda: work),
        mock.patch.object(api, "get_boto3_client", served),
        mock.patch.object(api, "get_boto3_session", mock.Mock()),
        mock.patch.object(api, "get_queue_user_boto3_session", keys),
        mock.patch.object(queue_group, "get_session_client", served),
        mock.patch.object(_incremental_download, "get_session_client", served),
        mock.patch.object(_list_jobs_by_filter_expression, "get_session_client", served),
        *no_telemetry(telemetry),
    ]
    with ExitStack() as stack:
        for patch in patches:
            stack.enter_context(patch)
        told = CliRunner().invoke(client_main, request["arguments"])
    if told.exception and not isinstance(told.exception, SystemExit):
        raise told.exception
    # It prints no document of what it did, but reports it.
    counts = [
        call.kwargs["event_details"]
        for call in telemetry.record_event.call_args_list
        if call.kwargs["event_type"].endswith("queue_sync_output_stats")
    ]
    return {"code": told.exit_code, "said": told.stdout, "errors": told.stderr, "counts": counts}


def to_profile(profile):
    locations = [
        FileSystemLocation(of["name"], of["path"], FileSystemLocationType(of["type"]))
        for of in profile["fileSystemLocations"]
    ]
    family = StorageProfileOperatingSystemFamily(profile["osFamily"])
    return StorageProfile(profile["storageProfileId"], profile["displayName"], family, locations)


def submit(request):
    """`deadline bundle submit`, up to the call of the service that makes the job."""
    work = to_name(request["cache"])
    profile = request.get("profile")
    settings = {
        "defaults.farm_id": request["farm"],
        "defaults.queue_id": request["queue"],
        "settings.storage_profile_id": profile["storageProfileId"] if profile else "",
    }
    known = _submit_job_bundle.get_setting
    patches = [
        mock.patch.object(
            _submit_job_bundle,
            "get_setting",
            lambda name, config=None: settings[name] if name in settings else known(name, config),
        ),
        mock.patch.dict(os.environ, DEADLINE_CONFIG_FILE_PATH=os.path.join(work, "config")),
        mock.patch.object(config_file, "get_cache_directory", lambda: work),
        mock.patch.object(api, "get_boto3_client", lambda *_, **__: Service(request)),
        mock.patch.object(
            api, "get_queue_user_boto3_session", lambda *_, **__: to_session(request)
        ),
        mock.patch.object(
            api, "get_storage_profile_for_queue", lambda *_, **__: to_profile(profile)
        ),
        *no_telemetry(),
    ]
    given = [{"name": name, "value": value} for name, value in request["given"].items()]
    with ExitStack() as stack:
        for patch in patches:
            stack.enter_context(patch)
        try:
            api.create_job_from_job_bundle(
                to_name(request["folder"]),
                given,
                queue_parameter_definitions=[],
                job_attachments_file_system=request["file_system"],
                require_paths_exist=request.get("require_paths_exist", False),
                interactive_confirmation_callback=lambda *_: True,
            )
        except Created as created:
            [call] = created.args
    return {"document": json.dumps(call["attachments"]), "parameters": call["parameters"]}


def download_inputs(request):
    """Each root of an attachments document into a folder."""
    settings, session = to_settings(request), to_session(request)
    roots = json.loads(request["document"])["manifests"]
    for root, folder in zip(roots, request["folders"]):
        if "inputManifestPath" not in root:
            continue
        key = settings.add_root_and_manifest_folder_prefix(root["inputManifestPath"])
        manifest = download.get_manifest_from_s3(key, request["bucket"], session)
        download.download_files_from_manifests(
            s3_bucket=request["bucket"],
            manifests_by_root={to_name(folder): manifest},
            cas_prefix=settings.full_cas_prefix(),
            session=session,
            conflict_resolution=FileConflictResolution.CREATE_COPY,
        )
    return {}


def download_files(request):
    statistics = download.download_files_from_manifests(
        s3_bucket=request["bucket"],
        manifests_by_root={to_name(request["root"]): to_manifest(request["manifest"])},
        cas_prefix=to_settings(request).full_cas_prefix(),
        session=to_session(request),
        conflict_resolution=FileConflictResolution[request.get("conflict", "CREATE_COPY")],
    )
    return {
        "processed_files": statistics.processed_files,
        "skipped_files": statistics.skipped_files,
    }


def job_download(request):
    session = to_session(request)
    if request.get("attachments"):
        downloader = download.InputDownloader(
            s3_settings=to_settings(request),
            attachments=Attachments(
                manifests=[
                    ManifestProperties.from_dict(of) for of in request["attachments"]["manifests"]
                ],
            ),
            session=session,
        )
    else:
        downloader = download.OutputDownloader(
            s3_settings=to_settings(request),
            farm_id=request["farm"],
            queue_id=request["queue"],
            job_id=request["job"],
            session=session,
        )
    for root, place in request["places"].items():
        downloader.set_root_path(root, place)
    if request.get("include"):
        downloader.apply_include_filters(request["include"])
    statistics = downloader.download(
        file_conflict_resolution=FileConflictResolution[request.get("conflict", "CREATE_COPY")]
    )
    return {
        "processed_files": statistics.processed_files,
        "processed_bytes": statistics.processed_bytes,
        "skipped_files": statistics.skipped_files,
        "total_files": statistics.total_files,
        "total_bytes": statistics.total_bytes,
    }


OPERATIONS = {
    "encode": encode,
    "decode": decode,
    "merge": merge,
    "hash": hash_bytes,
    "snapshot": snapshot,
    "diff": diff,
    "glob": glob_paths,
    "filter": matches_filters,
    "hash_cache_get": hash_cache_get,
    "hash_cache_put": hash_cache_put,
    "s3_check_cache_get": s3_check_cache_get,
    "s3_check_cache_put": s3_check_cache_put,
    "s3_read": s3_read,
    "s3_outputs": s3_outputs,
    "s3_write": s3_write,
    "s3_objects": s3_objects,
    "manifest_download": manifest_download,
    "attachments": attachments,
    "bundle": bundle,
    "input_name": input_name,
    "submit": submit,
    "client": client,
    "download_inputs": download_inputs,
    "upload": upload,
    "download": download_files,
    "job_download": job_download,
}


def answer(line):
    try:
        request = json.loads(line)
        return {"ok": OPERATIONS[request["op"]](request)}
    except Exception as error:
        return {"error": error_of(error)}


def main():
    for line in sys.stdin.buffer:
        ANSWERS.write(json.dumps(answer(line)) + "\n")
        ANSWERS.flush()


main()
