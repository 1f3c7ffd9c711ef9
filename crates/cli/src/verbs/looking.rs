//! `ls`, `cat`, `inspect`.

use std::io::Write as _;

use attachfs::ListedPath;

use super::{read, source, store_of};
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

/// Microseconds since 1970 as UTC, to the second.
fn time(micros: i64) -> String {
    let (days, seconds) = {
        let seconds = micros.div_euclid(1_000_000);
        (seconds.div_euclid(86_400), seconds.rem_euclid(86_400))
    };
    // The civil calendar from days, with years that begin in March, so that leap days come last.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

pub(super) async fn cat(globals: &Globals, args: Cat) -> Result<(), Failure> {
    let source = source(&args.manifest)?;
    let manifest = read(globals, &source, None).await?;
    let Some(path) = attachfs::parse_path(&args.path)? else {
        return Err(attachfs::Error::Usage("the root is a directory".to_owned()).into());
    };
    let store = store_of(globals, args.store.as_deref(), &[source], &places(None)).await?;
    let mut out = std::io::stdout();
    let root = args.shown.root.as_ref();
    match attachfs::cat(&manifest, root, &path, &store, |bytes| out.write_all(bytes)).await {
        // Whoever read it has read enough.
        Err(attachfs::Error::Io { source, .. })
            if source.kind() == std::io::ErrorKind::BrokenPipe =>
        {
            Ok(())
        }
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
