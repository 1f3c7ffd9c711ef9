//! `ls`, `cat`, `inspect`.

use std::ffi::OsStr;
use std::io::Write as _;

use attachfs::{CancellationToken, ListedPath, ManifestPath};

use super::job_files::{self, Meant};
use super::reading::{read, source};
use super::stores::store_of;
use crate::args::Globals;
use crate::args::looking::{Cat, Inspect, Ls, Named};
use crate::exit::Failure;
use crate::output;
use crate::places::places;

/// A path in a manifest or job, as it was typed.
fn path_of(typed: Option<&OsStr>) -> Result<Option<ManifestPath>, attachfs::Error> {
    let Some(typed) = typed else {
        return Ok(None);
    };
    let text = typed.to_str().ok_or_else(|| {
        attachfs::Error::usage(format!("the path {} is not UTF-8 text", typed.display()))
    })?;
    attachfs::parse_path(text)
}

impl Named {
    fn typed(&self) -> [Option<&OsStr>; 2] {
        [self.manifest.as_deref(), self.path.as_deref()]
    }
}

pub(super) async fn ls(globals: &Globals, args: Ls) -> Result<(), Failure> {
    let typed = args.named.typed();
    let (meant, path) = Meant::of(&typed, &args.of_job)?;
    let at = path_of(path)?;
    let root = args.shown.root.as_ref();
    let listed = match meant {
        Meant::Job(address) => {
            require_no_root(root)?;
            let store = args.store.as_deref();
            let (found, _) = job_files::read(globals, address, &args.of_job, store).await?;
            found.list(at.as_ref(), args.recursive)?
        }
        Meant::Manifest(manifest) => {
            let manifest = read(globals, &source(manifest)?, None).await?;
            attachfs::list(&manifest, root, at.as_ref(), args.recursive)?
        }
    };
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

/// `--root` is for manifests of absolute paths; those of jobs are below roots.
fn require_no_root(root: Option<&attachfs::Root>) -> Result<(), attachfs::Error> {
    match root {
        None => Ok(()),
        Some(_) => {
            let sentence = "--root is for manifests of absolute paths, and not for a job";
            Err(attachfs::Error::usage(sentence).advise("--asset-root chooses a root of a job"))
        }
    }
}

pub(super) async fn cat(globals: &Globals, args: Cat) -> Result<(), Failure> {
    let typed = args.named.typed();
    let (meant, path) = Meant::of(&typed, &args.of_job)?;
    let Some(path) = path_of(path)? else {
        return Err(attachfs::Error::usage("no file is named: the root is a directory").into());
    };
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
    let store = args.store.as_deref();
    let result = match meant {
        Meant::Job(address) => {
            require_no_root(root)?;
            let (found, store) = job_files::read(globals, address, &args.of_job, store).await?;
            found.cat(&path, &store, write, &never).await
        }
        Meant::Manifest(manifest) => {
            let source = source(manifest)?;
            let manifest = read(globals, &source, None).await?;
            let store = store_of(globals, store, &[source], &places()).await?;
            attachfs::cat(&manifest, root, &path, &store, write, &never).await
        }
    };
    match result {
        // A reader that closes the pipe has read enough.
        Err(_) if is_reader_gone => Ok(()),
        result => Ok(result?),
    }
}

pub(super) async fn inspect(globals: &Globals, args: Inspect) -> Result<(), Failure> {
    let typed = [args.manifest.as_deref()];
    let (meant, behind) = Meant::of(&typed, &args.of_job)?;
    let manifest = match (meant, behind) {
        (_, Some(more)) => {
            let sentence = format!("the options name a job, and {} is too much", more.display());
            return Err(attachfs::Error::usage(sentence).into());
        }
        (Meant::Job(address), None) => {
            let store = args.store.as_deref();
            let (found, _) = job_files::read(globals, address, &args.of_job, store).await?;
            return Ok(describe(globals, &found.inspect())?);
        }
        (Meant::Manifest(manifest), None) => manifest,
    };
    let manifest = read(globals, &source(manifest)?, None).await?;
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

/// Says what is below each root of a job.
fn describe(globals: &Globals, found: &attachfs::JobInspection) -> anyhow::Result<()> {
    if globals.json {
        return output::print_json(found);
    }
    let mut text = String::new();
    for root in &found.roots {
        text += &format!(
            "{}: {} from {}, {}\n           root {}\n",
            output::line_of(&root.folder),
            output::count(root.entries as u64, "path"),
            output::count(root.manifests as u64, "manifest"),
            output::bytes(root.bytes),
            output::line_of(&root.root)
        );
    }
    output::print(&text)
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
