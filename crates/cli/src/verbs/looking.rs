//! `ls`, `cat`, `inspect`.

use std::io::Write as _;

use attachfs::{CancellationToken, ListedPath};

use super::reading::{read, source};
use super::stores::store_of;
use crate::args::{Cat, Globals, Inspect, Ls};
use crate::exit::Failure;
use crate::output;
use crate::places::places;

pub(super) async fn ls(globals: &Globals, args: Ls) -> Result<(), Failure> {
    let manifest = read(globals, &source(&args.manifest)?, None).await?;
    let at = attachfs::parse_path(&args.path)?;
    let listed = attachfs::list(
        &manifest,
        args.shown.root.as_ref(),
        at.as_ref(),
        args.recursive,
    )?;
    if globals.json {
        return Ok(output::print_json(&listed)?);
    }
    let mut text = String::new();
    for path in &listed {
        text += &if args.long { long(path) } else { short(path) };
    }
    Ok(output::print(&text)?)
}

fn short(path: &ListedPath) -> String {
    let mark = match path.kind {
        "dir" => "/",
        "deleted" => " (deleted)",
        _ => "",
    };
    format!("{}{mark}\n", path.path)
}

fn long(path: &ListedPath) -> String {
    let kind = match path.kind {
        "dir" => "d",
        "symlink" => "l",
        "deleted" => "-",
        _ if path.runnable => "x",
        _ => "f",
    };
    let size = path.size.map(|size| size.to_string()).unwrap_or_default();
    let mtime = path.mtime.map(time).unwrap_or_default();
    let content = match (&path.hash, path.objects) {
        (Some(hash), _) => hash.clone(),
        (None, Some(0)) => "no hash".to_owned(),
        (None, Some(objects)) => format!("{objects} objects"),
        (None, None) => String::new(),
    };
    let target = path
        .target
        .as_ref()
        .map(|target| format!(" -> {target}"))
        .unwrap_or_default();
    format!(
        "{kind} {size:>14} {mtime:20} {content:32} {}{target}\n",
        path.path
    )
}

/// Microseconds since 1970 as UTC, to the second; the number where no calendar goes that far.
pub(super) fn time(micros: i64) -> String {
    let time = jiff::Timestamp::from_second(micros.div_euclid(1_000_000));
    time.map_or_else(|_| micros.to_string(), |time| time.to_string())
}

pub(super) async fn cat(globals: &Globals, args: Cat) -> Result<(), Failure> {
    let source = source(&args.manifest)?;
    let manifest = read(globals, &source, None).await?;
    let Some(path) = attachfs::parse_path(&args.path)? else {
        return Err(attachfs::Error::usage("the root is a directory").into());
    };
    let store = store_of(globals, args.store.as_deref(), &[source], &places()).await?;
    let mut out = std::io::stdout();
    let root = args.shown.root.as_ref();
    let mut is_reader_gone = false;
    let write = |bytes: &[u8]| {
        let written = out.write_all(bytes);
        written.inspect_err(|error| {
            is_reader_gone = error.kind() == std::io::ErrorKind::BrokenPipe;
        })
    };
    let never = CancellationToken::new();
    match attachfs::cat(&manifest, root, &path, &store, write, &never).await {
        // A reader that closes the pipe has read enough.
        Err(_) if is_reader_gone => Ok(()),
        result => Ok(result?),
    }
}

pub(super) async fn inspect(globals: &Globals, args: Inspect) -> Result<(), Failure> {
    let manifest = read(globals, &source(&args.manifest)?, None).await?;
    let found = attachfs::inspect(&manifest)?;
    if globals.json {
        return Ok(output::print_json(&found)?);
    }
    let mut text = format!(
        "{} of format {}, hash {}\n",
        found.kind, found.format, found.hash
    );
    if let Some(parent) = &found.parent {
        text += &format!("parent     {parent}\n");
    }
    text += &match found.chunk_size {
        Some(size) => format!("chunks     {}\n", output::bytes(size)),
        None => "chunks     none, every file is one object\n".to_owned(),
    };
    text += &format!(
        "holds      {}, {}, {}; {} in {}\n",
        output::count(found.files, "file"),
        output::count(found.dirs, "directory"),
        output::count(found.symlinks, "link"),
        output::bytes(found.bytes),
        output::count(found.objects, "object")
    );
    if found.deleted > 0 {
        text += &format!("deletes    {}\n", output::count(found.deleted, "path"));
    }
    if found.unhashed > 0 {
        text += &format!("no hash    {}\n", output::count(found.unhashed, "file"));
    }
    Ok(output::print(&text)?)
}

#[cfg(test)]
mod tests {
    use super::time;

    #[test]
    fn times_are_shown_in_utc() {
        assert_eq!(time(1_700_000_000_123_456), "2023-11-14T22:13:20Z");
        assert_eq!(time(0), "1970-01-01T00:00:00Z");
        assert_eq!(time(951_782_400_000_000), "2000-02-29T00:00:00Z");
        assert_eq!(time(-1), "1969-12-31T23:59:59Z");
    }
}
