//! Symbolic links and junctions on Windows.

use std::io;
use std::os::windows::fs::{symlink_dir, symlink_file};
use std::path::Path;

use windows_sys::Win32::System::SystemServices::{
    IO_REPARSE_TAG_MOUNT_POINT, IO_REPARSE_TAG_SYMLINK,
};

/// The most bytes that a reparse point has (`MAXIMUM_REPARSE_DATA_BUFFER_SIZE`).
pub(super) const MOST: usize = 16 << 10;

/// Makes a link at a free name. `target` has `/` between names.
pub(super) fn create(target: &[u8], at: &Path) -> io::Result<()> {
    let text = str::from_utf8(target)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidFilename, error))?;
    let target = text.replace('/', "\\");
    let leads_to = at.parent().unwrap_or(at).join(&target);
    if leads_to.is_dir() {
        symlink_dir(&target, at)
    } else {
        symlink_file(&target, at)
    }
}

/// Where a link leads, `/` between names. `data` is a `REPARSE_DATA_BUFFER` (`ntifs.h`).
pub(super) fn text(data: &[u8]) -> io::Result<Vec<u8>> {
    link_text(data).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn link_text(data: &[u8]) -> Option<Vec<u8>> {
    let number = |at: usize| Some(u16::from_le_bytes(*data.get(at..)?.first_chunk()?));
    let tag = u32::from_le_bytes(*data.first_chunk()?);
    // Four offsets and lengths behind the head: of the name that is used, and of the one that is shown. A symbolic link
    // has flags behind them.
    let names = match tag {
        IO_REPARSE_TAG_SYMLINK => 20,
        IO_REPARSE_TAG_MOUNT_POINT => 16,
        _ => return None,
    };
    let text_at = |offset: usize, len: usize| -> Option<Vec<u16>> {
        let start = names + usize::from(number(offset)?);
        let bytes = data.get(start..start + usize::from(number(len)?))?;
        let units = bytes.chunks_exact(2);
        Some(
            units
                .map(|unit| u16::from_le_bytes([unit[0], unit[1]]))
                .collect(),
        )
    };
    let (used, shown) = (text_at(8, 10)?, text_at(12, 14)?);
    let text = super::text_of(if shown.is_empty() { &used } else { &shown });
    let mut bytes = text.into_encoded_bytes();
    for byte in &mut bytes {
        if *byte == b'\\' {
            *byte = b'/';
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reparse_point(tag: u32, used: &str, shown: &str) -> Vec<u8> {
        let wide =
            |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_le_bytes).collect() };
        let (used, shown) = (wide(used), wide(shown));
        let mut data = tag.to_le_bytes().to_vec();
        data.extend([0; 4]);
        for number in [0, used.len(), used.len(), shown.len()] {
            data.extend((number as u16).to_le_bytes());
        }
        if tag == IO_REPARSE_TAG_SYMLINK {
            data.extend(1_u32.to_le_bytes());
        }
        [data, used, shown].concat()
    }

    #[test]
    fn the_text_of_a_link_is_what_is_shown_of_it() {
        for (tag, used, shown, text) in [
            (IO_REPARSE_TAG_SYMLINK, "..\\a\\b", "..\\a\\b", "../a/b"),
            (IO_REPARSE_TAG_SYMLINK, "\\??\\C:\\a", "C:\\a", "C:/a"),
            (
                IO_REPARSE_TAG_MOUNT_POINT,
                "\\??\\C:\\\u{e4}",
                "",
                "/??/C:/\u{e4}",
            ),
        ] {
            let data = reparse_point(tag, used, shown);
            assert_eq!(super::text(&data).unwrap(), text.as_bytes());
        }
    }

    #[test]
    fn a_reparse_point_that_is_cut_off_is_an_error() {
        let data = reparse_point(IO_REPARSE_TAG_SYMLINK, "a", "b");
        for len in 0..data.len() {
            super::text(&data[..len]).unwrap_err();
        }
        super::text(&reparse_point(1, "a", "b")).unwrap_err();
    }
}
