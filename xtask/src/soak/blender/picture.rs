//! Whether two PNG files of the same program have the same pixels.
//!
//! The same encoder makes the same bytes of the same pixels, so what is compared is what a decoder needs: `IHDR` and `IDAT`. Text is
//! left out: Cycles writes there how long it rendered.

use anyhow::{Result, ensure};

const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// What differs, if anything does.
pub(super) fn difference(one: &[u8], other: &[u8]) -> Result<Option<String>> {
    let (one, other) = (Pixels::of(one)?, Pixels::of(other)?);
    if one.header != other.header {
        let difference = format!(
            "{} pixels in another form than {}",
            other.size(),
            one.size()
        );
        return Ok(Some(difference));
    }
    if one.data == other.data {
        return Ok(None);
    }
    let same = one
        .data
        .iter()
        .zip(&other.data)
        .take_while(|(one, other)| one == other);
    Ok(Some(format!(
        "the first {} of {} compressed bytes are the same",
        same.count(),
        one.data.len()
    )))
}

struct Pixels {
    header: Vec<u8>,
    data: Vec<u8>,
}

impl Pixels {
    fn of(png: &[u8]) -> Result<Self> {
        ensure!(png.starts_with(SIGNATURE), "a frame is no PNG file");
        let mut rest = &png[SIGNATURE.len()..];
        let mut pixels = Self {
            header: Vec::new(),
            data: Vec::new(),
        };
        let mut ended = false;
        while let Some((head, behind)) = rest.split_first_chunk::<8>()
            && !ended
        {
            let [a, b, c, d, kind @ ..] = *head;
            let length = u32::from_be_bytes([a, b, c, d]) as usize;
            // The checksum is behind the bytes.
            let Some((chunk, behind)) = behind.split_at_checked(length) else {
                break;
            };
            rest = behind.get(4..).unwrap_or_default();
            match &kind {
                b"IHDR" => pixels.header.extend(chunk),
                b"IDAT" => pixels.data.extend(chunk),
                b"IEND" => ended = true,
                _ => {}
            }
        }
        ensure!(
            ended && pixels.header.len() == 13 && !pixels.data.is_empty(),
            "a frame is a PNG file that is not whole"
        );
        Ok(pixels)
    }

    fn size(&self) -> String {
        let number = |at: usize| {
            let bytes = self.header[at..at + 4].iter();
            bytes.fold(0_u32, |sum, &byte| (sum << 8) | u32::from(byte))
        };
        format!("{} x {}", number(0), number(4))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn png(chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
        let mut png = SIGNATURE.to_vec();
        for (kind, data) in chunks {
            png.extend(u32::try_from(data.len()).unwrap().to_be_bytes());
            png.extend(*kind);
            png.extend(*data);
            png.extend([0; 4]);
        }
        png
    }

    const HEADER: (&[u8; 4], &[u8]) = (b"IHDR", &[0, 0, 0, 2, 0, 0, 0, 3, 8, 2, 0, 0, 0]);
    const END: (&[u8; 4], &[u8]) = (b"IEND", &[]);

    #[test]
    fn text_and_how_the_data_is_cut_make_no_difference() {
        let one = png(&[HEADER, (b"tEXt", b"00:01"), (b"IDAT", b"abcd"), END]);
        let other = png(&[HEADER, (b"IDAT", b"ab"), (b"IDAT", b"cd"), END]);
        assert_eq!(difference(&one, &other).unwrap(), None);
    }

    #[test]
    fn other_pixels_and_another_size_are_told() {
        let one = png(&[HEADER, (b"IDAT", b"abcd"), END]);
        let other = png(&[HEADER, (b"IDAT", b"abcx"), END]);
        let told = difference(&one, &other).unwrap().unwrap();
        assert!(told.contains("first 3 of 4"), "{told}");
        let wide = [0, 0, 0, 9, 0, 0, 0, 3, 8, 2, 0, 0, 0];
        let other = png(&[(b"IHDR", &wide), (b"IDAT", b"abcd"), END]);
        let told = difference(&one, &other).unwrap().unwrap();
        assert!(told.starts_with("9 x 3"), "{told}");
    }

    #[test]
    fn a_file_that_was_cut_is_no_frame() {
        let whole = png(&[HEADER, (b"IDAT", b"abcd"), END]);
        for length in 0..whole.len() - 4 {
            assert!(difference(&whole, &whole[..length]).is_err(), "{length}");
        }
    }
}
