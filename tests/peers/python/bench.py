"""One piece of work of the Python reference implementation, timed from inside.

    bench.py decode MANIFEST            the text in memory to a checked manifest
    bench.py encode MANIFEST            the manifest to its text, sorted, in memory
    bench.py map RULES PATHS            the rules made ready, then each path, a line each, through them to its text
    bench.py snapshot ROOT CACHE TO     as `deadline manifest snapshot` does it; CACHE has the hash cache, TO is the directory
                                        that gets the manifest
    bench.py diff MANIFEST ROOT         as `deadline manifest diff` does it; nothing may have changed
    bench.py hash THREADS FILE...       the library's hash of each file, by so many threads
    bench.py upload BUCKET PREFIX ROOT CACHE
                                        finds the files of a folder, hashes them and uploads them and their manifest, as the client does
                                        it when a job is submitted; CACHE has both caches
    bench.py download BUCKET PREFIX MANIFEST ROOT
                                        places the files of a manifest in a folder

The last two do what they do with the library's own settings, and find S3 as every program with boto3 does: by its environment.

Prints one line of JSON: `seconds` (after the imports, and after reading the input of the first three), `text` (bytes that were
read or made), `peak_anon` (bytes, meanwhile, the input included) and, of the first two, `kept` (bytes for each entry of what
the work gave).
Work that found something else than it should is an error. The kernel keeps the peak of the resident memory and lets it be set
back (`/proc/PID/clear_refs`); pages of files are subtracted from it.
"""

import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import xxhash  # Imported by the library when it first hashes, which would be inside the time.

from deadline.job_attachments._path_mapping import _PathMappingRuleApplier
from deadline.job_attachments.api.manifest import _manifest_diff, _manifest_snapshot
from deadline.job_attachments.asset_manifests.decode import decode_manifest
from deadline.job_attachments.asset_manifests.hash_algorithms import HashAlgorithm, hash_file
from deadline.job_attachments.download import download_files_from_manifests
from deadline.job_attachments.models import JobAttachmentS3Settings, PathMappingRule
from deadline.job_attachments.upload import S3AssetManager


def memory():
    """Bytes: peak, anonymous, of files."""
    status = {}
    for line in Path("/proc/self/status").read_text().splitlines():
        key, _, value = line.partition(":")
        status[key] = value
    size = lambda key: int(status[key].split()[0]) * 1024
    return size("VmHWM"), size("RssAnon"), size("RssFile") + size("RssShmem")


def measured(work):
    _, before, _ = memory()
    Path("/proc/self/clear_refs").write_text("5")
    start = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - start
    peak, after, of_files = memory()
    return result, {
        "seconds": seconds,
        "peak_anon": peak - of_files,
        "kept": max(after - before, 0),
    }


def report(figures, text, entries=None):
    kept = figures.pop("kept")
    return {**figures, "text": text} | ({"kept": kept / entries} if entries else {})


def decode(file):
    text = Path(file).read_text(encoding="utf-8")
    manifest, figures = measured(lambda: decode_manifest(text))
    return report(figures, len(text), len(manifest.paths))


def encode(file):
    manifest = decode_manifest(Path(file).read_text(encoding="utf-8"))
    made, figures = measured(manifest.encode)
    if made != Path(file).read_text(encoding="utf-8"):
        sys.exit("what was encoded is not what was decoded")
    return report(figures, len(made), len(manifest.paths))


def map_paths(rules, paths):
    rules = [PathMappingRule(**rule) for rule in json.loads(Path(rules).read_text(encoding="utf-8"))]
    text = Path(paths).read_text(encoding="utf-8")
    paths = text.splitlines()

    def work():
        applier = _PathMappingRuleApplier(rules)
        return sum(str(applier.strict_transform(path)) != path for path in paths)

    mapped, figures = measured(work)
    if mapped != len(paths):
        sys.exit(f"{mapped} paths have a rule")
    return report(figures, len(text))


def snapshot(root, cache, to):
    made, figures = measured(
        lambda: _manifest_snapshot(root=root, destination=to, name="bench", hash_cache_dir=cache)
    )
    if made is None:
        sys.exit("no manifest was made")
    return report(figures, os.path.getsize(made.manifest))


def diff(manifest, root):
    found, figures = measured(lambda: _manifest_diff(manifest=manifest, root=root))
    if found.new or found.modified or found.deleted:
        sys.exit("something changed")
    return report(figures, os.path.getsize(manifest))


def hash_files(threads, *files):
    def work():
        with ThreadPoolExecutor(max_workers=int(threads)) as executor:
            return list(executor.map(lambda file: hash_file(file, HashAlgorithm.XXH128), files))

    hashes, figures = measured(work)
    if len(set(hashes)) != len(files):
        sys.exit("two files have the same hash")
    return report(figures, sum(map(os.path.getsize, files)))


def upload(bucket, prefix, root, cache):
    settings = JobAttachmentS3Settings(s3BucketName=bucket, rootPrefix=prefix)
    manager = S3AssetManager(
        farm_id="farm-bench",
        queue_id="queue-bench",
        job_attachment_settings=settings,
        session=boto3.Session(),
    )

    def work():
        files = [str(path) for path in Path(root).rglob("*") if path.is_file()]
        group = manager.prepare_paths_for_upload(files, [], [])
        _, manifests = manager.hash_assets_and_create_manifest(
            group.asset_groups,
            group.total_input_files,
            group.total_input_bytes,
            hash_cache_dir=cache,
        )
        return manager.upload_assets(manifests, s3_check_cache_dir=cache)[0]

    found, figures = measured(work)
    return report(figures, found.total_bytes)


def download(bucket, prefix, manifest, root):
    settings = JobAttachmentS3Settings(s3BucketName=bucket, rootPrefix=prefix)
    decoded = decode_manifest(Path(manifest).read_text(encoding="utf-8"))
    session = boto3.Session()
    found, figures = measured(
        lambda: download_files_from_manifests(
            s3_bucket=bucket,
            manifests_by_root={root: decoded},
            cas_prefix=settings.full_cas_prefix(),
            session=session,
        )
    )
    if found.processed_files != len(decoded.paths):
        sys.exit(f"{found.processed_files} files were downloaded")
    return report(figures, found.total_bytes)


WORK = {
    "decode": decode,
    "encode": encode,
    "map": map_paths,
    "snapshot": snapshot,
    "diff": diff,
    "hash": hash_files,
    "upload": upload,
    "download": download,
}


def main():
    name, *words = sys.argv[1:]
    print(json.dumps(WORK[name](*words)))


main()
