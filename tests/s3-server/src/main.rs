//! `attachfs-test-s3 ROOT [PORT]`: serves the directories in ROOT as buckets and prints the endpoint.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use attachfs_test_s3::TestS3;

#[tokio::main]
#[expect(clippy::print_stdout, reason = "the endpoint is the output")]
async fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let root = PathBuf::from(
        arguments
            .next()
            .context("usage: attachfs-test-s3 ROOT [PORT]")?,
    );
    let port = match arguments.next() {
        Some(port) => port
            .to_str()
            .and_then(|port| port.parse().ok())
            .with_context(|| format!("{} is not a port", port.display()))?,
        None => 0,
    };
    let server = TestS3::start_on(&root, port)
        .await
        .with_context(|| format!("cannot serve {}", root.display()))?;
    println!("{}", server.endpoint());
    server.serve().await?;
    Ok(())
}
