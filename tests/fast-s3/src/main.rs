//! `attachfs-fast-s3 ROOT`: serves the directories in ROOT as buckets and prints the endpoint. Ends when its standard input does, so
//! that it does not outlive who started it.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use attachfs_fast_s3::{FastS3, Pace};
use clap::Parser;

#[derive(Debug, Parser)]
#[command(about = "An S3 server for measurements; ends with its standard input")]
struct Arguments {
    /// A directory; each directory in it is a bucket
    root: PathBuf,
    /// The address to listen at
    #[arg(long, default_value = "127.0.0.1")]
    host: IpAddr,
    /// The port; 0 is a free one
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Before each answer, in milliseconds
    #[arg(long, default_value_t = 0)]
    delay_ms: u64,
    /// The most bytes a second that a connection carries in one direction; 0 is no limit
    #[arg(long, default_value_t = 0)]
    bytes_per_s: u64,
}

#[expect(clippy::print_stdout, reason = "the endpoint is the output")]
fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let server = FastS3::start_on(&arguments.root, (arguments.host, arguments.port).into())
        .with_context(|| format!("cannot serve {}", arguments.root.display()))?;
    server.set_pace(Pace {
        delay: Duration::from_millis(arguments.delay_ms),
        bytes_per_s: arguments.bytes_per_s,
    });
    println!("{}", server.endpoint());
    io::copy(&mut io::stdin(), &mut io::sink()).context("cannot read standard input")?;
    Ok(())
}
