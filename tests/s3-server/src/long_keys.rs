//! Objects whose keys are longer than `s3s-fs` takes: it keeps what is said of an object in a file whose name is the key in base64, and
//! no name is longer than 255 bytes. The keys of a job's outputs are.
//!
//! Of these keys the bytes lie where they lie of all others, in the file that the key names, and what is said of them in
//! `.long-keys/<hash of the key>` beside the buckets. Only what a PUT of one request says is kept: metadata.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::path::{Component, Path, PathBuf};

use futures::TryStreamExt as _;
use futures::future::BoxFuture;
use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput,
    CompleteMultipartUploadOutput, CopyObjectInput, CopyObjectOutput, CreateBucketInput,
    CreateBucketOutput, CreateMultipartUploadInput, CreateMultipartUploadOutput, DeleteObjectInput,
    DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, GetBucketLocationInput,
    GetBucketLocationOutput, GetObjectInput, GetObjectOutput, HeadBucketInput, HeadBucketOutput,
    HeadObjectInput, HeadObjectOutput, ListBucketsInput, ListBucketsOutput, ListObjectsInput,
    ListObjectsOutput, ListObjectsV2Input, ListObjectsV2Output, ListPartsInput, ListPartsOutput,
    PutObjectInput, PutObjectOutput, UploadPartCopyInput, UploadPartCopyOutput, UploadPartInput,
    UploadPartOutput,
};
use s3s::{S3, S3Request, S3Response, S3Result};
use s3s_fs::FileSystem;

/// Longer keys, with the name of their bucket, are kept here.
const LONGEST: usize = 140;

/// Objects on a disk, whatever their keys are.
#[derive(Debug)]
pub(crate) struct Objects {
    files: FileSystem,
    root: PathBuf,
}

fn is_long(bucket: &str, key: &str) -> bool {
    bucket.len() + key.len() > LONGEST
}

fn failed(error: io::Error) -> s3s::S3Error {
    s3s::S3Error::internal_error(error)
}

impl Objects {
    pub(crate) fn new(files: FileSystem, root: &Path) -> Self {
        Self {
            files,
            root: root.to_owned(),
        }
    }

    fn said_path(&self, bucket: &str, key: &str) -> PathBuf {
        let mut hasher = DefaultHasher::new();
        (bucket, key).hash(&mut hasher);
        let name = format!("{:016x}", hasher.finish());
        self.root.join(".long-keys").join(name)
    }

    /// What is said of an object with a long key.
    fn said(&self, bucket: &str, key: &str) -> Option<HashMap<String, String>> {
        if !is_long(bucket, key) {
            return None;
        }
        let text = std::fs::read(self.said_path(bucket, key)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    async fn put_long(&self, input: PutObjectInput) -> io::Result<()> {
        let mut bytes = Vec::new();
        if let Some(mut body) = input.body {
            while let Some(part) = body.try_next().await.map_err(io::Error::other)? {
                bytes.extend_from_slice(&part);
            }
        }
        let key = Path::new(&input.key);
        let is_plain = key
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        if !is_plain {
            return Err(io::Error::other("a key that is no path"));
        }
        let path = self.root.join(&input.bucket).join(key);
        let said = self.said_path(&input.bucket, &input.key);
        for path in [&path, &said] {
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)?;
            }
        }
        let metadata = serde_json::to_vec(&input.metadata.unwrap_or_default())?;
        std::fs::write(said, metadata)?;
        let staged = self
            .root
            .join(".long-keys")
            .join(format!("{:p}", &raw const bytes));
        std::fs::write(&staged, &bytes)?;
        std::fs::rename(staged, path)
    }
}

/// Hands requests on as they are. The signature is what `async_trait` makes of an `async fn`: it does not look into macros.
macro_rules! handed_on {
    ($($name:ident: $input:ident => $output:ident;)*) => {$(
        fn $name<'a, 'answer>(
            &'a self,
            request: S3Request<$input>,
        ) -> BoxFuture<'answer, S3Result<S3Response<$output>>>
        where
            'a: 'answer,
            Self: 'answer,
        {
            self.files.$name(request)
        }
    )*};
}

#[async_trait::async_trait]
impl S3 for Objects {
    async fn put_object(
        &self,
        request: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        if !is_long(&request.input.bucket, &request.input.key) {
            return self.files.put_object(request).await;
        }
        self.put_long(request.input).await.map_err(failed)?;
        Ok(S3Response::new(PutObjectOutput::default()))
    }

    async fn get_object(
        &self,
        request: S3Request<GetObjectInput>,
    ) -> S3Result<S3Response<GetObjectOutput>> {
        let said = self.said(&request.input.bucket, &request.input.key);
        let mut answer = self.files.get_object(request).await?;
        answer.output.metadata = said.or(answer.output.metadata);
        Ok(answer)
    }

    async fn head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let said = self.said(&request.input.bucket, &request.input.key);
        let mut answer = self.files.head_object(request).await?;
        answer.output.metadata = said.or(answer.output.metadata);
        Ok(answer)
    }

    handed_on! {
        abort_multipart_upload: AbortMultipartUploadInput => AbortMultipartUploadOutput;
        complete_multipart_upload: CompleteMultipartUploadInput => CompleteMultipartUploadOutput;
        copy_object: CopyObjectInput => CopyObjectOutput;
        create_bucket: CreateBucketInput => CreateBucketOutput;
        create_multipart_upload: CreateMultipartUploadInput => CreateMultipartUploadOutput;
        delete_object: DeleteObjectInput => DeleteObjectOutput;
        delete_objects: DeleteObjectsInput => DeleteObjectsOutput;
        get_bucket_location: GetBucketLocationInput => GetBucketLocationOutput;
        head_bucket: HeadBucketInput => HeadBucketOutput;
        list_buckets: ListBucketsInput => ListBucketsOutput;
        list_objects: ListObjectsInput => ListObjectsOutput;
        list_objects_v2: ListObjectsV2Input => ListObjectsV2Output;
        list_parts: ListPartsInput => ListPartsOutput;
        upload_part: UploadPartInput => UploadPartOutput;
        upload_part_copy: UploadPartCopyInput => UploadPartCopyOutput;
    }
}
