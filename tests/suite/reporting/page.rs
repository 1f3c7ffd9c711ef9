//! The report as a page: as a parser reads it, and as a browser shows it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::BufReader;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use scraper::{Html, Selector};

use crate::machine::{Machine, Mount, args, skipped};
use crate::process::said;

/// Names that would break a page in which they stand as they are.
const ODD: [&[u8]; 5] = [
    b"</script><script>alert(1)<",
    b"\"><img src=x onerror=alert(2)>",
    b"&amp;lt; and 'quotes'",
    b"line\nbreak \xff \xed\xa0\x80",
    "\u{202e}gnp.exe".as_bytes(),
];

/// A mount with files of such names; some are read, some are not, and some are missing.
fn odd_mount(machine: &Machine) -> Mount {
    for (number, name) in ODD.iter().enumerate() {
        let file = machine.path("input").join(OsStr::from_bytes(name));
        machine.file(file, vec![7; 1000 * (number + 1)]);
    }
    let manifest = machine.snapshot(&machine.path("input"), "odd.manifest");
    let mount = machine.mount(args![&manifest], "mnt");
    for name in &ODD[..3] {
        fs::read(mount.dir.join(OsStr::from_bytes(name))).unwrap();
    }
    for name in ODD {
        let absent = [name, b".absent"].concat();
        fs::metadata(mount.dir.join(OsStr::from_bytes(&absent))).unwrap_err();
    }
    mount
}

fn select<'a>(page: &'a Html, what: &str) -> Vec<scraper::ElementRef<'a>> {
    page.select(&Selector::parse(what).unwrap()).collect()
}

/// The text of each element.
fn texts(page: &Html, what: &str) -> Vec<String> {
    let found = select(page, what).into_iter();
    found.map(|element| element.text().collect()).collect()
}

#[test]
fn a_page_shows_names_as_text_and_needs_nothing_else() {
    Machine::mounting_from_directory(|machine| {
        let mount = odd_mount(machine);
        let file = machine.path("use.html");
        machine
            .ok(args!["report", "--html", &file, &mount.dir])
            .printing("written    ");
        let text = fs::read_to_string(&file).unwrap();
        let page = Html::parse_document(&text);
        assert_eq!(page.errors, [] as [std::borrow::Cow<'_, str>; 0], "{text}");
        let bad = "script, img, link, iframe, object, a, [src], [href], [onerror], [onload]";
        assert_eq!(select(&page, bad).len(), 0, "{text}");
        assert_eq!(select(&page, "html head meta[charset]").len(), 1);
        assert_eq!(select(&page, "main section").len(), 5);
        assert_eq!(select(&page, "table").len(), 3);
        let paths = texts(&page, "td.path");
        let shown = |path: &str| paths.iter().any(|shown| shown == path);
        for path in [
            "</script><script>alert(1)<",
            "\"><img src=x onerror=alert(2)>",
            "&amp;lt; and 'quotes'",
            "line\\nbreak \\xff \\xed\\xa0\\x80",
            "\\u{202e}gnp.exe",
        ] {
            assert!(
                shown(path) && shown(&format!("{path}.absent")),
                "{path}: {paths:#?}"
            );
        }
        // The same on standard output, and nothing beside it.
        let piped = machine.ok(args!["report", "--html", "-", &mount.dir]);
        assert_eq!(Html::parse_document(&piped.out).errors.len(), 0);
    });
}

/// A browser that makes pictures without a screen.
fn browser() -> Option<&'static str> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let is_there = |name: &&str| {
        let version = std::process::Command::new(name).arg("--version").output();
        version.is_ok_and(|output| output.status.success())
    };
    names.into_iter().find(is_there)
}

/// How the browser shows a page in a window of this size.
struct Shown {
    size: (u32, u32),
    /// Three bytes a pixel.
    pixels: Vec<u8>,
}

impl Shown {
    fn of(machine: &Machine, browser: &str, page: &Path, size: (u32, u32), dark: bool) -> Self {
        let name = format!(
            "{}x{}{}.png",
            size.0,
            size.1,
            if dark { "-dark" } else { "" }
        );
        let picture = picture_dir(machine).join(name);
        let mut command = machine.command(browser);
        command
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
            ])
            .arg(format!(
                "--user-data-dir={}",
                machine.dir("browser").display()
            ))
            .arg(format!("--window-size={},{}", size.0, size.1))
            .arg(format!("--screenshot={}", picture.display()));
        if dark {
            command.arg("--blink-settings=preferredColorScheme=0");
        }
        said(command.arg(format!("file://{}", page.display()))).with_code(0);
        let mut decoder = png::Decoder::new(BufReader::new(File::open(&picture).unwrap()));
        decoder.set_transformations(png::Transformations::EXPAND | png::Transformations::STRIP_16);
        let mut reader = decoder.read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        let samples = info.color_type.samples();
        assert!(samples >= 3, "{info:?}");
        let pixels = pixels
            .chunks_exact(samples)
            .flat_map(|pixel| pixel[..3].to_vec());
        Self {
            size: (info.width, info.height),
            pixels: pixels.collect(),
        }
    }

    fn at(&self, x: u32, y: u32) -> [u8; 3] {
        let at = (y * self.size.0 + x) as usize * 3;
        self.pixels[at..at + 3].try_into().unwrap()
    }

    /// How many pixels have about this colour.
    fn count(&self, colour: [u8; 3]) -> usize {
        let is = |pixel: &&[u8]| {
            let pairs = pixel.iter().zip(colour);
            pairs
                .into_iter()
                .all(|(one, other)| one.abs_diff(other) <= 2)
        };
        self.pixels.chunks_exact(3).filter(is).count()
    }
}

/// Where pictures go: for people who want to see them, the directory that the variable names.
fn picture_dir(machine: &Machine) -> PathBuf {
    match std::env::var_os("ATTACHFS_TEST_PICTURES") {
        Some(dir) => dir.into(),
        None => machine.dir("pictures"),
    }
}

#[test]
fn a_browser_shows_the_page_on_a_phone_and_a_desk_in_light_and_dark() {
    let Some(browser) = browser() else {
        skipped("there is no Chromium to show the page with");
        return;
    };
    Machine::mounting_from_directory(|machine| {
        let mount = odd_mount(machine);
        let page = machine.path("use.html");
        machine.ok(args!["report", "--html", &page, &mount.dir]);
        // The page's ground, and the colour of what was read: as its style says them.
        for (dark, ground, read) in [
            (false, [0xf6, 0xf7, 0xf9], [0x25, 0x63, 0xa8]),
            (true, [0x14, 0x18, 0x1f], [0x6a, 0xa9, 0xe9]),
        ] {
            for size in [(500, 1400), (1280, 1400)] {
                let shown = Shown::of(machine, browser, &page, size, dark);
                assert_eq!(shown.size, size);
                assert_eq!(shown.at(2, 2), ground, "{size:?}");
                // Nothing is wider than the window.
                let right = (0..size.1).all(|y| shown.at(size.0 - 1, y) == ground);
                assert!(right, "{size:?}, dark: {dark}");
                let bars = shown.count(read);
                assert!(bars > 2000, "{bars} of {size:?}, dark: {dark}");
            }
        }
    });
}
